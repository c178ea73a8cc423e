"""Rows about Kafka: brokers, the way to them, and offsets."""
