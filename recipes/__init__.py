"""The recipes: one experiment per file, each with a `Config` and a `run(config)`."""
