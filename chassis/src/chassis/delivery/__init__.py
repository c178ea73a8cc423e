"""Consuming: a batch from Kafka becomes one transaction, then a committed offset, or dead letters.

It imports every other package of the chassis; none of them imports this one.
"""
