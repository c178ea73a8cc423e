"""Well-behaved clients, their requests, and the storms that are drawn from a seed."""
