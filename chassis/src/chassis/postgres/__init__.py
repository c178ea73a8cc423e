"""PostgreSQL: connecting, the pool, migrations, time limits on every use, the loop over due rows, and retention.

It imports the runtime, the settings and the observability packages.
"""
