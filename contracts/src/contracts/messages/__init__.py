"""The messages: every command and event, one module for each topic, and their texts in a job's log. Pure.

It imports the ids, the failure kinds and the inputs of each modality.
"""
