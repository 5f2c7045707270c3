"""The benchmark harness. It may import every room; no room imports it."""
