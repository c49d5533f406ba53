"""The training pipeline, one module per stage."""
