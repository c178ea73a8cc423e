"""Kafka: its settings, and the cluster that they describe. Nothing here connects."""
