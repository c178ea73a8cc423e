"""PostgreSQL: connections, the pool, migrations, time limits, the loop over due rows, and retention.

It imports the runtime, the settings and the observability packages.
"""
