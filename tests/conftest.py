"""
What holds for every test: a busy machine is no failure, so Hypothesis sets no deadline for one example; and the
longest files begin first, so that no worker is left alone with one at the end.

It tries the same examples each time, so that a run judges the change and not its luck. HYPOTHESIS_PROFILE=explore
has it look for others; what that finds becomes an `@example`.
"""

from __future__ import annotations

import os

# Before NumPy is imported. Its threads spin while they wait for each other: where other tests have work for the
# processor, a training of half a second would take a minute.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support import forking

settings.register_profile("pointsman", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pointsman"))

LONGEST = (
    "cluster/test_pools.py",
    "integration/up/",
    "integration/gateway/test_placement.py",
    "integration/failures/",
    "cluster/chart/test_release.py",
    "cluster/definitions/",
    "cluster/test_tenants.py",
    "integration/dashboards/test_boards_on_a_run.py",
    "integration/live_pools/test_live_pools.py",
    "integration/policies/test_live_policies.py",
    "integration/gateway/test_faults.py",
    "integration/upstream/test_answers_on_the_wire.py",
    "integration/chat/test_chat.py",
    "cluster/",
)
"""Files and folders below this one that keep a worker busy for longer than others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        place = item.path.relative_to(root).as_posix()
        return next((at for at, long in enumerate(LONGEST) if place.startswith(long)), len(LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def no_authorities(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """
    Each client of httpx or openai would parse all certificates of the world's authorities first, for 80 ms of CPU.

    Tests talk to this machine alone, and those that speak TLS name the certificate that they trust.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SSL_CERT_FILE", raising=False)
        patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("none")))
        yield


@pytest.fixture(scope="session")
def fork_server(no_authorities: None) -> Iterator[None]:
    """Processes of `pointsman` are forked from one that has imported what they need, one for the whole run."""
    server = forking.use()
    yield
    server.close()
