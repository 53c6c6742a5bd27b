"""Figures beside yardsticks, taken in one run: `make bench`, or `python -m benchmarks NAME ...`."""
