"""The policy class whose name Ray Serve is given.

Alone in its module, because Ray takes a policy's whole module into its controller by value: what is decided, and
the thread that fetches the demand, stay in `autoscaling.py`, which is imported there.
"""

from __future__ import annotations

from typing import Any


class DemandPolicy:
    """Made once by the controller, and asked each turn of its loop. The arguments are `autoscaling.Scaler`'s."""

    def __init__(self, **arguments: Any) -> None:
        from pointsman.serving.autoscaling import Scaler

        self._scaler = Scaler(**arguments)

    def __call__(self, context: Any) -> tuple[float, dict[str, Any]]:
        """The number of replicas, not rounded, and no state of Ray's keeping."""
        return self._scaler(context), {}
