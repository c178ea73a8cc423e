"""The infrastructure Segue starts for itself when it is given none: Kafka's protocol, PostgreSQL, child processes."""
