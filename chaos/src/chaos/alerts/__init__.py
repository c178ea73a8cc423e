"""Which alerts a fault raises: each fault on the fleet beside a real Prometheus, with the rules in short time."""
