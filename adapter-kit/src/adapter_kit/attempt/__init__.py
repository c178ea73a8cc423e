"""The attempt: one try of one job at one provider, as a state machine. Pure.

It imports the port. It knows no database, no broker, no clock and no provider.
"""
