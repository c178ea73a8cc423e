"""The life of a process: start, readiness, the watch over its parts, and the bounded drain at its end.

It imports the settings and the observability packages. Kafka, PostgreSQL and HTTP are not known here.
"""
