"""The system under test: brokers, services, providers, the network between them, and the scale of the faults."""
