"""What `make bench` runs: Pointsman with every step on, beside its peers, on one core each.

One run measures all of them against the same upstream, interleaved, because figures of two runs do not compare.
How to read the output, and what it cannot tell, is in `docs/benchmarks.md`.
"""
