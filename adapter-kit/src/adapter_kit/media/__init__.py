"""Inspection of media files by their bytes: type, duration or dimensions, and completeness.

It imports no other package of the kit.
"""
