"""A real Prometheus, of Debian's package, that looks at a gateway each second and keeps the platform's rules."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import httpx
import yaml

from support.gateway import free_port, wait_for

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / "build" / "tools" / "usr" / "bin"
"""Where `make tools` puts what it does not install."""

INTERVAL = "1s"


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`."""
    return shutil.which(name) or str(UNPACKED / name)


class Sample(NamedTuple):
    labels: dict[str, str]
    value: float


class Prometheus:
    """
    Scrapes `/metrics` of `targets` (host:port) and evaluates the groups of `rules` each second.

    Use as a context manager, which waits until it has scraped once.
    """

    def __init__(self, folder: Path, targets: Sequence[str], rules: Sequence[Path] = ()) -> None:
        self._folder = folder
        self._targets = list(targets)
        self._rules = list(rules)
        self._port = free_port()
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}/api/v1", timeout=30)
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Prometheus:
        self._folder.mkdir()
        hasty = []
        for rules in self._rules:
            document = yaml.safe_load(rules.read_text())
            for group in document["groups"]:
                group["interval"] = INTERVAL
            hasty.append(self._folder / rules.name)
            hasty[-1].write_text(yaml.safe_dump(document))
        config = {
            "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL, "scrape_timeout": INTERVAL},
            "rule_files": [str(file) for file in hasty],
            "scrape_configs": [{"job_name": "pointsman", "static_configs": [{"targets": self._targets}]}],
        }
        (self._folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
        with (self._folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program("prometheus"),
                    f"--config.file={self._folder}/prometheus.yaml",
                    f"--storage.tsdb.path={self._folder}/data",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(self._sees, "Prometheus to scrape")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._http.close()

    def now(self, expression: str, at: float | None = None) -> list[Sample]:
        """What `expression` is, at `at` seconds since 1970."""
        data = self._get("query", query=expression, **({} if at is None else {"time": at}))
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    def course(self, expression: str, start: float, end: float, step: float = 1.0) -> list[list[float]]:
        """The values of each series that `expression` was from `start` to `end`."""
        data = self._get("query_range", query=expression, start=start, end=end, step=step)
        return [[float(value) for _, value in each["values"]] for each in data["result"]]

    def values(self, label: str, series: str) -> list[str]:
        """The values of `label` in `series`, as a dashboard's variable asks for them."""
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": series})
        return found

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with how its last evaluation went."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _sees(self) -> bool:
        assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()
        try:
            return {sample.value for sample in self.now("up")} == {1.0}
        except httpx.TransportError:
            return False
        except httpx.HTTPStatusError:
            return False  # it reads its write-ahead log

    def _get(self, path: str, **params: Any) -> Any:
        answer = self._http.get(f"/{path}", params=params)
        if answer.status_code == 400:
            raise AssertionError(f"{params}: {answer.json()['error']}")
        return answer.raise_for_status().json()["data"]
