"""What is in a run's result: its files, links and data URLs, or a refusal in the place of an output. Pure.

It imports the port, the phrases, the HTTP and the media packages.
"""
