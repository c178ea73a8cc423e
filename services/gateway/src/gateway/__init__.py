"""The REST API of Segue."""
