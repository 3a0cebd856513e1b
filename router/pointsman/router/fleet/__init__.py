"""The replicas as the data plane knows them: who is alive, how busy, and who waits for one.

Stands between the registrations in the store and the step `place`. A request never asks the store and never
walks all replicas: what changes rarely (who is registered, who is healthy, whose circuit is open) is worked out
when it changes, in tasks of its own. Each file holds one subject; `fleet.py` ties them together.
"""

from pointsman.router.fleet.fleet import Fleet
from pointsman.router.fleet.pool_state import PoolState
from pointsman.router.fleet.replica import Replica

__all__ = ["Fleet", "PoolState", "Replica"]
