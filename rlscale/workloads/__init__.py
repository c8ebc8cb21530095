"""Loads: families of generators, recorded traces, token lengths. Knows nothing of clusters or scalers."""
