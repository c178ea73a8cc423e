"""What becomes of a job: from a job and an input to the job as it is now, and the messages to publish. Pure.

It imports the contracts alone.
"""
