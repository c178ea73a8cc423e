"""Rows about replicas: killed, frozen, restarted, blocked, and deployed with a fault."""
