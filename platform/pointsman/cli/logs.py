"""How the processes of a gateway log: to stderr, as text for people or as JSON for whoever collects the lines.

Apart from the commands because all of them log alike; `instance/logs.py` is where `pointsman up` puts the lines.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime

from pointsman.cli.standalone import refuse
from pointsman.contracts.names import Env


class JsonLines(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `process`, `message`, and `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def to_stderr() -> None:
    """Log from level INFO on, in the format that the environment names; refused where it names none of them."""
    handler = logging.StreamHandler()
    match os.environ.get(Env.LOG_FORMAT) or "text":
        case "json":
            handler.setFormatter(JsonLines())
        case "text":
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s[%(process)d]: %(message)s"))
        case _:
            refuse(f"{Env.LOG_FORMAT} must be text or json.")
    logging.basicConfig(level=logging.INFO, handlers=[handler])
