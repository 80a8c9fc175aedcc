"""The detectors: magnitudes by distance, residual, unseen, forest and drip; facts by rarity and
identity.
"""
