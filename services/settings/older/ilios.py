"""The variables that Ilios reads and that mean nothing here, each with what takes its place.

They count where the document door is open: their names are so plain that they may mean something else elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final

REPLICA: Final = "USE_EMBEDDED_REPLICA"
NO_REPLICA: Final = frozenset({"", "false"})
_TURSO: Final = (
    "what is known of documents is in the broker, of which several make a cluster: docs/cluster.md"
)
REFUSED: Final[Mapping[str, str]] = {
    "LOCAL_DB_PATH": "no SQLite file of an Ilios is read: SWITCHYARD_DATA_DIR names the place of what Switchyard keeps",
    "DB_ENCRYPTION_KEY": "every document is encrypted with a key of its own, which is erased with it: docs/erasure.md",
    "TURSO_DATABASE_URL": _TURSO,
    "TURSO_AUTH_TOKEN": _TURSO,
    "TURSO_SYNC_INTERVAL": _TURSO,
}
"""Each, and what takes its place."""
OF_REPLICAS: Final = frozenset({"TURSO_DATABASE_URL", "TURSO_AUTH_TOKEN", "TURSO_SYNC_INTERVAL"})


def faults(environment: Mapping[str, str] = os.environ) -> list[str]:
    """What is wrong with the variables of an Ilios that are set, in sentences.

    `USE_EMBEDDED_REPLICA=false` says what holds here anyway, and that those of Turso count for nothing.
    """
    replica = environment.get(REPLICA)
    is_off = replica is not None and replica.strip().lower() in NO_REPLICA
    found = [] if replica is None or is_off else [f"{REPLICA} is set: {_TURSO}"]
    for variable, instead in REFUSED.items():
        if environment.get(variable, "").strip() and not (is_off and variable in OF_REPLICAS):
            found.append(f"{variable} is set: {instead}")
    return found
