"""How a paid provider is driven: the attempt, its ledger, its driver."""
