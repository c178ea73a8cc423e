"""The circuit breaker: its policy (pure), its rows in PostgreSQL, and the credential probe, which costs nothing.

It imports `attempt` and `port`.
"""
