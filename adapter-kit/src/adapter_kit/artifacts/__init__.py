"""From output to artifact: each output is fetched, inspected and stored.

It imports the attempt's inputs, the port, and the HTTP, results and media packages.
"""
