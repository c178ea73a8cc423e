"""The fault matrix: a module for each kind of fault, and the probes that rows share."""
