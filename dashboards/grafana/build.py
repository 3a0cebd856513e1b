"""Write Grafana's dashboards: `python dashboards/grafana/build.py [FOLDER]`, by default where they are checked in.

Stands with its modules outside of the platform's rooms: what is shipped is the JSON that it makes, here and in the
chart. A test tells when that is stale.
"""

from __future__ import annotations

import sys
from pathlib import Path

from boards.cost import cost
from boards.fleet import fleet
from boards.modes import modes
from boards.router import router
from boards.tenant import tenant
from grafana_foundation_sdk.cog.encoder import JSONEncoder

HERE = Path(__file__).parent
CHART = HERE.parents[1] / "charts" / "pointsman" / "files"

BOARDS = {"fleet": fleet, "cost": cost, "modes": modes, "router": router, "tenant": tenant}


def write(folder: Path) -> None:
    """Write each dashboard into `folder` as NAME.json."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, build in BOARDS.items():
        text = JSONEncoder(sort_keys=True, indent=1).encode(build())
        (folder / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    for where in map(Path, sys.argv[1:]) if len(sys.argv) > 1 else (HERE, CHART / "grafana"):
        write(where)
