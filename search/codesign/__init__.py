"""Hardware parameters as dimensions of a search: a Pareto front of time, area and energy."""
