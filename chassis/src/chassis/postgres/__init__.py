"""PostgreSQL: connecting, the pool, migrations, time limits on every use, and the deletion of old rows.

It imports the runtime, the settings and the observability packages.
"""
