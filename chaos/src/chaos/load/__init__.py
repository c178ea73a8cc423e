"""Clients that behave well, what they ask for, and the storms that are drawn from a seed."""
