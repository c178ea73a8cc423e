"""What all Segue services share: process lifecycle, Kafka, message delivery, PostgreSQL, HTTP, telemetry, settings."""
