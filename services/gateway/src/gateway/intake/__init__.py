"""Validates requests, makes the messages that create jobs, and publishes messages before clients get an answer.

This package does not depend on HTTP: it raises the exceptions of `intake.errors`, which `api.error_answers` maps to
responses. It imports `queries`.
"""
