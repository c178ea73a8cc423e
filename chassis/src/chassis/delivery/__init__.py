"""Consuming: the messages of a batch are handled in one transaction; then their offsets are committed, or dead letters
are published.

This package imports every other package of the chassis; none of them imports this one.
"""
