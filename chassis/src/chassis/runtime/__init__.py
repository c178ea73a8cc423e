"""The lifecycle of a process: start, readiness, background tasks and the watchdog, retries, and the bounded drain.

It imports the settings and the observability packages, and nothing of Kafka, PostgreSQL or HTTP.
"""
