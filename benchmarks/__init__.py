"""Benchmarks of speed and memory, beside plain reference implementations. README.md lists what is compared."""
