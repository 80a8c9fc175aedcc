"""The same job in different engines, each a program of its own; see docs/benchmarks.md."""
