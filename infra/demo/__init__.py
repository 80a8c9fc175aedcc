"""The demo on a real engine: real containers, real Kafka, and hosts that only seem remote."""
