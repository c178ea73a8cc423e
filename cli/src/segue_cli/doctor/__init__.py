"""`segue doctor`: checks of everything that Segue needs. None spends anything."""
