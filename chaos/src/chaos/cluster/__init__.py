"""What the faults are done to: brokers, services, providers, the network between them, and how much of each."""
