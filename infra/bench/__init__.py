"""Benchmarks: figures for people to rerun, never tests."""
