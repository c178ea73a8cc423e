"""The attempt: one try of one job at one provider, as a state machine. Pure.

It imports the port. It uses no database, no broker and no clock, and is the same for every provider.
"""
