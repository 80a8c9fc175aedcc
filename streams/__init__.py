"""Wiring: Faust, Kafka and the container runtime around the core."""
