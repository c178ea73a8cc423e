"""What is known of jobs, attempts and providers: from PostgreSQL, and from the tail of the topics.

Nothing in here knows of HTTP: what cannot be found or read is raised as one of `queries.errors`, which `api.errors`
answers.
"""
