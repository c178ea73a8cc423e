"""How things look on a terminal: jobs, attempts, providers, and the console that all of them use."""
