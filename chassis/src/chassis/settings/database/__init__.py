"""Parsing of database URLs, by the rules of libpq."""
