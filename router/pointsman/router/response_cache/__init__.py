"""The response cache: what was answered before, and who is being answered now.

Stands beside the pipeline, whose step `recall` alone uses it. `keys.py` says which requests are equal,
`recorded.py` what is kept of an answer and how it is told from a forgery, `memory.py` holds answers in the process
and `shared.py` those in Redis; `flight.py` runs equal requests once, and `answers.py` puts these together. What a
hit costs is in `billing.py`. The same parts serve `Idempotency-Key`, a cache under a key of the client's own.
"""
