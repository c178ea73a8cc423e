"""The endpoints of the API, one module for each resource.

It may import all other packages of the gateway; none of them imports it.
"""
