"""Shields: what stands between a scaler's decision and the fleet. One per file, in the order of `table`."""
