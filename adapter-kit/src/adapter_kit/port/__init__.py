"""The interface that a provider implements, and the outcomes that it returns. Pure, except for the calls to a provider.

It imports nothing of the kit.
"""
