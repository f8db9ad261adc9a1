"""What nodes mean: which of them, alone or together, are a workload."""
