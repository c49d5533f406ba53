"""The data sets of the baselines."""
