"""`python -m benchmarks.gateway`: measure, print the tables, write the JSON and the picture."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from benchmarks import wire_formats
from benchmarks.gateway import matrix, report, subjects
from benchmarks.gateway.figures import Figure, disturbance, verdicts
from benchmarks.gateway.pages import pages
from benchmarks.gateway.peers import PEERS, ROOT, RUST_PEERS, environment
from benchmarks.gateway.subjects import Subject
from benchmarks.gateway.tools import Cores, Tools

OWN = ("direct", "kernel-floor", "floor", "pointsman")
FILES_FOR_10_000 = 32_768


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, _leave)
    started = time.time()
    files = _raise_file_limit()
    cores = _cores(options.cores)
    # Everything that this process starts stays off the gateway's core unless it is put there.
    os.sched_setaffinity(0, {cores.others})
    output: Path = options.output
    tools = Tools(output, cores)
    tools.build()
    streams = options.streams or (10_000 if files >= FILES_FOR_10_000 else 4_000)
    what = matrix.plan(quick=options.quick, repeats=options.repeats, seconds=options.seconds, streams=streams)

    tested: list[Subject] = []
    samples: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    # In the system's folder for temporary files, because the path of a Unix socket has to be short.
    if options.part != "scaling":
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pointsman-bench-")))
            upstream = stack.enter_context(tools.upstream(ports=2))
            tested, missing = _start(stack, options.only, tools, folder, upstream.ports)
            samples = matrix.run(tools, what.visits, tested)
    rows = matrix.rows(samples, tools.tokens)
    changes: dict[str, Figure | None] = {}
    crowd: dict[str, Any] | None = None
    page: dict[str, Any] | None = None
    if options.part != "matrix" and "pointsman" in options.only:
        with tempfile.TemporaryDirectory(prefix="pointsman-bench-") as place:
            changes, scaled = matrix.scaling(tools, Path(place), what)
            crowd, crowded = matrix.crowd(tools, Path(place), what)
            page, paged = pages(tools, Path(place), 2 if options.quick else 5, what.scaling_seconds)
            samples += scaled + crowded + paged

    formats = {}
    if options.part != "scaling" and "pointsman" in options.only:
        formats = {endpoint.value: wire_formats.measured(endpoint, rounds=100) for endpoint in wire_formats.BODIES}
    judged = verdicts(rows, changes, crowd, page, RUST_PEERS, formats.get("/v1/messages"))
    waited = disturbance(item for item in samples if item["rss"])
    # A part of a run does not replace what a whole one wrote.
    file = output / ("gateway.json" if options.part is None else f"gateway-{options.part}.json")
    written = {
        "machine": _machine(cores),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "minutes": round((time.time() - started) / 60, 1),
        "quick": options.quick,
        "subjects": {subject.name: subject.configured for subject in tested},
        "missing": missing,
        "waited": waited,
        "rows": [
            {"subject": name, **vars(cell), **asdict(item)}
            for cell, found in rows.items()
            for name, item in found.items()
        ],
        "scaling": {name: change and asdict(change) for name, change in changes.items()},
        "crowd": crowd,
        "page": page,
        "formats": {path: cost._asdict() for path, cost in formats.items()},
        "verdicts": [asdict(verdict) for verdict in judged],
        "samples": samples,
    }
    file.write_text(json.dumps(written, indent=1))
    print(report.matrix(rows), report.judgement(judged), report.warning(waited), sep="\n\n")
    for name, reason in missing.items():
        print(f"\nnot measured: {name}: {reason}")
    print(f"\n{file}{f', {_draw(file)}' if rows else ''}; {written['minutes']} minutes")


def _leave(number: int, frame: object) -> NoReturn:
    """Stop what runs and remove its folder, as at the end."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _options() -> argparse.Namespace:
    names = [*OWN, *(peer.name for peer in PEERS)]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a rough look within 5 minutes")
    parser.add_argument("--only", default=",".join(names), help=f"what to measure, of {','.join(names)}")
    parser.add_argument("--repeats", type=int, help="repeats of each small cell (default: 5; quick: 3)")
    parser.add_argument("--seconds", type=float, help="length of each measurement (default: 3; quick: 1.2)")
    parser.add_argument("--streams", type=int, help="slow concurrent streams (default: as many as files allow)")
    parser.add_argument("--part", choices=("matrix", "scaling"), help="the peers alone, or the scaling alone")
    parser.add_argument(
        "--cores", default="", help="core of the gateway, core of all else (default: the first two)"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "build/bench", help="folder for what is made")
    options = parser.parse_args()
    # What a gateway adds can only be told against the direct connection.
    options.only = list(dict.fromkeys(["direct", *options.only.split(",")]))
    if unknown := set(options.only) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


def _start(
    stack: ExitStack, only: list[str], tools: Tools, folder: Path, ports: tuple[int, ...]
) -> tuple[list[Subject], dict[str, str]]:
    """The subjects, running, and why others are not."""
    cores, environments = tools.cores, tools.folder / "venvs"
    tested = [subjects.direct(ports)]
    missing: dict[str, str] = {}
    if "kernel-floor" in only:
        tested.append(stack.enter_context(subjects.kernel_floor(tools, folder, ports)))
    if "floor" in only:
        tested.append(stack.enter_context(subjects.floor(sys.executable, cores, folder, ports)))
    if "pointsman" in only:
        tested.append(stack.enter_context(subjects.pointsman(cores, folder, ports[:1], ports[1:])))
    for peer in PEERS:
        if peer.name not in only:
            continue
        try:
            tested.append(stack.enter_context(subjects.peer(peer, environments, cores, folder, ports)))
        except subprocess.CalledProcessError as error:
            missing[peer.name] = f"cannot be installed: {str(error.stderr)[-300:]}"
        except TimeoutError as error:
            missing[peer.name] = str(error)
        if peer.name in missing:
            print(f"{peer.name}: {missing[peer.name]}", file=sys.stderr, flush=True)
    return tested, missing


def _cores(wanted: str) -> Cores:
    there = sorted(os.sched_getaffinity(0))
    if wanted:
        gateway, others = (int(word) for word in wanted.split(","))
        return Cores(gateway, others)
    if len(there) < 2:
        print("one core only: the gateways share it with their load, and all figures suffer", file=sys.stderr)
    return Cores(there[0], there[-1] if len(there) < 2 else there[1])


def _raise_file_limit() -> int:
    """As many open files as this process may have, for it and its children."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def _machine(cores: Cores) -> dict[str, Any]:
    model = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    return {
        "cpu": model,
        "cpus": os.cpu_count(),
        "cores": asdict(cores),
        "load_average": os.getloadavg(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def _draw(file: Path) -> str:
    """The picture, or why there is none."""
    picture = file.with_suffix(".png")
    script = Path(__file__).with_name("picture.py")
    try:
        python = environment("picture", file.parent / "venvs") / "python"
        subprocess.run(
            [str(python), str(script), str(file), str(picture)], check=True, capture_output=True, text=True
        )
    except subprocess.CalledProcessError as error:
        return f"no picture: {str(error.stderr)[-300:]}"
    return str(picture)


if __name__ == "__main__":
    main()
