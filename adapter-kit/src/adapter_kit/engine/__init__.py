"""Processing of attempts: the ledger, the loop that claims due rows, and the actions with their outcomes.

It imports every other package of the kit; none of them imports this one.
"""
