"""The detectors: magnitudes by distance, forest and drip; facts by rarity and identity."""
