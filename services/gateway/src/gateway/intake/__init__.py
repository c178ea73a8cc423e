"""What a request has to be before it becomes a job, and how it reaches Kafka before its client is told so.

Nothing in here knows of HTTP: what is wrong is raised as one of `intake.errors`, which `api.errors` answers. It imports
`queries`.
"""
