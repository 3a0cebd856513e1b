"""Limits and budgets: what a request may use at most, what is left of it here, and what is leased from Redis.

Below the pipeline's step `admit`, which asks, and above the store, which shares out. The arithmetic (`bounds.py`,
`allowance.py`) touches no socket and no clock.
"""
