"""A private copy of Jittor that builds with CUDA 13."""
