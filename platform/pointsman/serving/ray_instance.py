"""A Ray of this instance's own: started for its pools, reachable from this machine alone, and gone afterwards.

All that Ray and the engines write lies in one folder; two instances share no port, socket or file. Ray offers
more than is used here (dashboard, metrics agent, usage reports, proxies); what can be switched off is, because
it would cost memory and processor time while nobody asks anything.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LONGEST_ROOT = 34
"""Characters: Ray appends up to 72 for its sockets, and the kernel takes no socket path of 108 or more."""

_HOLDER, _LINK = "pm-", "r"

_OBJECT_STORE = 80 * 1024 * 1024
"""Bytes of shared memory for Ray's objects, about the least it accepts: none pass through it here."""

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",  # seconds; the usual 0.1 keeps an idle machine awake
    "RAY_AUTH_MODE": "token",
    # Named for other systems, but it is the one switch that keeps Ray's ports on the loopback interface.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "AUTOSCALER_METRIC_PORT": "0",  # any free one; the usual numbers are the same in every instance
    "DASHBOARD_METRIC_PORT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # an engine on CPU keeps seeing the accelerators others use
}


@contextlib.contextmanager
def running_ray(folder: Path) -> Iterator[None]:
    """
    A fresh Ray and Ray Serve for the time of the block; `folder` is emptied first, and keeps the logs afterwards.

    Changes the environment of this process, which all of Ray's processes inherit. Call from the main thread.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tmp").mkdir(mode=0o700, parents=True)
    with _short_name_of(folder) as root:
        temporary = str(root / "tmp")
        os.environ.update(_ENVIRONMENT)
        os.environ.update(
            TMPDIR=temporary,
            TORCHINDUCTOR_CACHE_DIR=f"{temporary}/torchinductor",
            TRITON_CACHE_DIR=f"{temporary}/triton",
            RAY_AUTH_TOKEN=secrets.token_hex(32),
        )
        # Imported late: Ray reads its environment when it is imported.
        import ray
        from ray import serve
        from ray.serve.config import ProxyLocation

        try:
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                object_store_memory=_OBJECT_STORE,
                namespace="serve",
                _temp_dir=str(root),
            )
            serve.start(proxy_location=ProxyLocation.Disabled)
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _short_name_of(folder: Path) -> Iterator[Path]:
    """`folder`, or a link to it with a name short enough for sockets below it, removed after the block."""
    if len(str(folder)) <= _LONGEST_ROOT:
        yield folder
        return
    _remove_stale_names(folder)
    holder = Path(tempfile.mkdtemp(prefix=_HOLDER, dir="/tmp"))
    try:
        link = holder / _LINK
        link.symlink_to(folder, target_is_directory=True)
        yield link
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def _remove_stale_names(folder: Path) -> None:
    """Remove what killed predecessors left: names of `folder`, and of folders that are gone."""
    for holder in Path("/tmp").glob(f"{_HOLDER}*"):
        with contextlib.suppress(OSError):
            target = (holder / _LINK).readlink()
            if holder.lstat().st_uid == os.geteuid() and (target == folder or not target.exists()):
                shutil.rmtree(holder)
