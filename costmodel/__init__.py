"""The learned cost model: features, fits, predictions with uncertainty, and its quality metrics."""
