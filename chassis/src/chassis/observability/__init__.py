"""Logs, metrics and traces.

Of the chassis it imports the settings only.
"""
