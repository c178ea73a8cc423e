"""`segue doctor`: checks of everything that Segue needs. None of them costs money."""
