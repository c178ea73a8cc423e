"""HTTP as the gateway speaks it: problem documents, bodies, pages, conditions, and the span of each call.

It imports no other package of the gateway.
"""
