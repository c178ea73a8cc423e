"""The chaos program: injects faults into a real cluster with all of Segue, and checks Segue's guarantees.

No package imports it. It imports the command line, which starts the processes.
"""
