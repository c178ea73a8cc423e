"""The circuit breaker: its policy (pure), its rows in PostgreSQL, and the free probe of a provider's credentials.

It imports the attempt and the port.
"""
