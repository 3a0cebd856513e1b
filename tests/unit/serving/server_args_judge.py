"""Lets SGLang itself judge sets of arguments: JSON {name: arguments} in, JSON {name: complaint or null} out.

A program of its own: SGLang takes long to import, and wants the CPU stand-ins on its path from the start.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from typing import Any


def complaint(args: dict[str, Any]) -> str | None:
    """What SGLang has against `args`: by its command line (names, types, choices), then by its own resolution."""
    from sglang.srt.server_args import ServerArgs

    parser = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False)
    ServerArgs.add_cli_args(parser)
    words = []
    for name, value in args.items():
        words.append(f"--{name.replace('_', '-')}")
        words += [] if value is True else [str(value)]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed = parser.parse_args(words)
    except (SystemExit, argparse.ArgumentError) as error:
        return f"{error} {said.getvalue()}"
    for name, value in args.items():
        if getattr(parsed, name) != value:
            return f"{name}: {value!r} was read as {getattr(parsed, name)!r}"
    try:
        # Resolved for a CPU, for want of accelerators; the rules between arguments are the same.
        resolved = ServerArgs(**{**args, "device": "cpu"})
        resolved.resolve_once()
        resolved.check_server_args()
    except Exception as error:
        return repr(error)
    return None


def main() -> None:
    with contextlib.redirect_stdout(sys.stderr):
        from sglang.srt.plugins import load_plugins

        load_plugins()
        complaints = {name: complaint(args) for name, args in json.load(sys.stdin).items()}
    json.dump(complaints, sys.stdout)


if __name__ == "__main__":
    main()
