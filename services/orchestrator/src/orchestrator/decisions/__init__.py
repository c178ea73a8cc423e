"""The decisions about a job: from a job and an input to the new state of the job and the messages to publish. Pure.

It imports the contracts only.
"""
