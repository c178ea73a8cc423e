"""How events become the current state of jobs, attempts, tracks and artifacts: what each event reports, and the rule by
which the reports about a column merge. Pure; it imports the contracts only. The log sink compiles the rules to SQL, the
gateway applies them to the rows it holds in memory.
"""
