"""HTTP/1.1 on both sides of the data plane: the server clients speak to, and the client that speaks to engines.

Own protocols on uvloop and httptools instead of a framework, because the framework would cost more than all of
the routing (`docs/decisions/`). Parses and hands over; knows no pipeline.
"""
