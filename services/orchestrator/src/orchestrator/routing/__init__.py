"""The routes that can serve a job, and the order in which they are tried. Pure.

It imports the decisions, for the candidates of a job and the cost ceiling.
"""
