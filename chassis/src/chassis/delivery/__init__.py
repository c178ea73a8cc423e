"""Consuming: a batch is handled in one transaction; then its offsets are committed or dead letters published.

This package imports every other package of the chassis; none of them imports this one.
"""
