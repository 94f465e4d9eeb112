"""Benchmarks of the host, each figure beside its yardstick from the same run."""
