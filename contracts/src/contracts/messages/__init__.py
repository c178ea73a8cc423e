"""The messages: every command and event, by the topic that carries it, and what each says to people. Pure.

It imports the ids, the failure kinds and the inputs of each modality.
"""
