"""Metrics for Prometheus: what is counted, timed and served."""
