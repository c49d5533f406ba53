"""Image transforms of the baselines."""
