"""What lies on disk: evidence, models."""
