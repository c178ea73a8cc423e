"""What drives attempts: the ledger, the loop that claims due rows, the actions, and what comes of them.

It imports every other package of the kit; none of them imports this one.
"""
