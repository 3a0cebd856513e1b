"""The database's tables, step by step: each file of `versions/` leads from the one before it to the next."""
