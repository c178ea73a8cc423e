"""The life of a process: start, readiness, background tasks and their watch, retries, and the bounded drain at its end.

It imports the settings and the observability packages. Kafka, PostgreSQL and HTTP are not known here.
"""
