"""The admin process: everything but queries, as a FastAPI application behind a Unix socket."""
