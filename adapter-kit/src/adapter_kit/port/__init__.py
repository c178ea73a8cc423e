"""What a provider implements, and the outcomes that it returns. Pure but for the calls themselves.

It imports nothing of the kit.
"""
