"""The fault matrix: one module for each kind of fault, and the probes that rows share."""
