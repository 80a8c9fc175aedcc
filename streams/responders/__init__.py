"""Platforms that carry out orders; each keeps the contract of base.py."""
