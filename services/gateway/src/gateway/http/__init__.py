"""The HTTP layer: problem documents, request bodies, pagination, conditional requests, and the span of each request.

It imports no other package of the gateway.
"""
