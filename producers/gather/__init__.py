"""Frames of all hosts become batches per image: gather, a plain confluent-kafka process."""
