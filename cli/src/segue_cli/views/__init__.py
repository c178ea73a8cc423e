"""Terminal output: jobs, attempts, providers, and the console that all of them use."""
