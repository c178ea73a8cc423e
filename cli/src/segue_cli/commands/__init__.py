"""The commands that ask a running Segue, or start a part of it: one module for each."""
