"""What is known of jobs, attempts and providers: from PostgreSQL, and from the tail of the topics."""
