"""Queries for jobs, attempts and providers, answered from PostgreSQL and from the tail of the topics.

This package does not depend on HTTP. What is missing or cannot be read is raised as an exception of `queries.errors`,
which `api.error_answers` maps to a response.
"""
