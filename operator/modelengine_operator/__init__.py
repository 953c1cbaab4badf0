"""The operator: keeps what a cluster runs for each ModelEngine as its spec says, and writes the registry of names."""
