"""Telemetry in: collectors, sources, and what gathers their frames."""
