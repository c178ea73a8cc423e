"""Which routes can take a job, and in which order they are tried. Pure.

It imports the decisions, for what a job remembers of its routes.
"""
