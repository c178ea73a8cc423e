"""Interpretation of a run's result: its files, links and data URLs, or a refusal instead of an output. Pure.

It imports the port, the phrases, the HTTP and the media packages.
"""
