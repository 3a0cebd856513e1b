"""Live state shared between processes, kept in Redis or Valkey.

Stands between the rooms and the contracts; it knows keys and time-to-live, never a request.
"""
