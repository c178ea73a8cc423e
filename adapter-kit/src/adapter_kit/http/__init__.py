"""HTTP exchanges with providers: the transport below an SDK, response bodies of any size, and what a response means.

It imports `port` and `phrases`.
"""
