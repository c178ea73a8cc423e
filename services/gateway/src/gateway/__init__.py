"""The REST door of Segue."""
