"""The calls of the API, one module for each resource.

It imports every other package of the gateway; none of them imports this one.
"""
