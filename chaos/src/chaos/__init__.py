"""The chaos program: faults on a real cluster with all of Segue, and a checker of its promises.

Nothing imports it; it imports the command line, which starts what it breaks.
"""
