"""Starts what benchmarks compare, each arrangement behind one endpoint. Knows no workload, and measures no request."""
