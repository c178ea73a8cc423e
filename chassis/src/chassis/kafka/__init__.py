"""Kafka: the broker, its subscriber and topics, the state that the cluster reports, and the transactional outbox.

It imports the packages of PostgreSQL, the runtime, the settings and observability.
"""
