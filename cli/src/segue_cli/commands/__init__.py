"""The subcommands that call a running Segue or start a part of it: one module for each."""
