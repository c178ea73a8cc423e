"""Kafka: the broker and its topics, what the cluster reports of them, and the transactional outbox.

It imports the packages of PostgreSQL, the runtime, the settings and observability.
"""
