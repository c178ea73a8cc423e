"""HTTP as a provider speaks it: the transport below its SDK, bodies of any size, and what a response means.

It imports the port and the phrases.
"""
