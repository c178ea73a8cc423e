"""Rows about what a machine runs out of or gets wrong: disks, clocks, and too many clients."""
