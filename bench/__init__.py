"""Measuring the devices: rates that come with their proof, their spread and their limit.

One hash = one SHA-256d of an 80-byte header. `python -m bench --help` tells the rest; docs/bench.md
tells how it is measured, and what exactly has been proven when a rate is printed.
"""
