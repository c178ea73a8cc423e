"""HTTP: the server with its limits on clients, the health pages, and the guarded client for URLs from outside.

It imports the runtime, the settings and the observability packages.
"""
