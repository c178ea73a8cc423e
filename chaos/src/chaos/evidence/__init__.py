"""What is known of a run, from clients, bills, events and tables; read once, and joined by job and attempt."""
