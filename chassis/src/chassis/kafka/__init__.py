"""Kafka: the broker, its subscriber and topics, what the cluster reports of them, and the transactional outbox.

It imports the packages of PostgreSQL, the runtime, the settings and observability.
"""
