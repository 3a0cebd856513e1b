"""Conversations that official SDKs had through a running router, in each wire format: `python -m recordings`."""
