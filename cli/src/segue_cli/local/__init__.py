"""The infrastructure that Segue starts if none is configured: Kafka's protocol, PostgreSQL, child processes."""
