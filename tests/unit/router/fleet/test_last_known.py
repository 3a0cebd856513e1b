"""The file of last known replicas: whatever is in it, the router starts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from time import time

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointsman.router.fleet.last_known import BELIEVED, CONFIRMED, LastKnown
from pointsman.store.replicas import Replica

ONE = Replica("p", "127.0.0.1:1001", "a", "")
TWO = Replica("q", "[::1]:1002", "b", "")


def keep(file: Path, *replicas: Replica) -> None:
    asyncio.run(LastKnown(file).keep(replicas))


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    file = tmp_path / "replicas.json"
    keep(file, ONE, TWO)
    assert LastKnown(file).load() == [ONE, TWO]
    keep(file, TWO)
    assert LastKnown(file).load() == [TWO]
    assert list(tmp_path.iterdir()) == [file]
    assert file.stat().st_mode & 0o777 == 0o600


def test_no_file_is_no_replicas(tmp_path: Path) -> None:
    assert LastKnown(tmp_path / "none").load() == []


def test_it_is_written_when_it_changed_or_has_grown_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "replicas.json"
    now = time()
    monkeypatch.setattr("pointsman.router.fleet.last_known.time", lambda: now)
    known = LastKnown(file)
    written = []
    for seconds, replicas in [
        (0, [ONE]),
        (1, [ONE]),
        (2, [ONE, TWO]),
        (3, [TWO, ONE]),
        (CONFIRMED + 3, [TWO, ONE]),
    ]:
        monkeypatch.setattr("pointsman.router.fleet.last_known.time", lambda seconds=seconds: now + seconds)
        asyncio.run(known.keep(replicas))
        written.append(orjson.loads(file.read_bytes())["written"] - now)
    assert [round(moment) for moment in written] == [0, 0, 2, 2, round(CONFIRMED) + 3]


@pytest.mark.parametrize("age", [BELIEVED + 1, -60])
def test_an_old_list_is_not_believed_nor_one_from_the_future(tmp_path: Path, age: float) -> None:
    file = tmp_path / "replicas.json"
    keep(file, ONE)
    content = orjson.loads(file.read_bytes())
    file.write_bytes(orjson.dumps({**content, "written": time() - age}))
    assert LastKnown(file).load() == []


@given(
    content=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["written", "replicas", "address", "pool"]), inner, max_size=4)
        ),
    ).map(orjson.dumps)
    | st.lists(st.dictionaries(st.sampled_from(["address", "pool", "instance", "version", "load"]), st.text())).map(
        lambda items: orjson.dumps({"written": time(), "replicas": items})
    )
)
@settings(max_examples=150, deadline=None)
def test_a_spoilt_file_is_no_replicas_and_no_crash(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "spoilt.json"
    file.write_bytes(content)
    assert all(isinstance(replica, Replica) for replica in LastKnown(file).load())


def test_a_folder_that_can_not_be_written_is_outlived(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keep(tmp_path / "missing" / "replicas.json", ONE)
    assert "can't be written" in caplog.text
