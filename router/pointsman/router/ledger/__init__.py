"""The ledger from a request's end to the database: a local spool, a stream in Redis, a process that writes SQL.

What a request used and cost is in a file of the data plane's own before its answer ends, and leaves that file only
once the database has it: killing any process, Redis or the database loses no entry and writes none twice.

`log.py` is what the pipeline sees, `spool.py` the files, `shipping.py` brings them to the stream, `adoption.py`
takes over those of routers that died, `writing.py` and `process.py` are `pointsman ledger-writer`.
"""

from pointsman.router.ledger.log import Ledger

__all__ = ["Ledger"]
