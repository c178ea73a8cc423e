"""What a request has to be before it becomes a job, and how it reaches Kafka before the client hears 202."""
