"""Logs, metrics and traces: what a service reports of itself.

It imports nothing of the chassis but the settings.
"""
