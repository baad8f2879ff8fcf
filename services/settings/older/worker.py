"""The variables that workers of emp-redis read, as settings of `switchyard worker`.

They count for that command alone: their names are so plain that they may mean something else to whoever set them
on a machine where no worker runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from switchyard.events.subjects import MAX_NAME, is_name

SETTINGS: Final = {
    "WORKER_ID": "worker_name",
    "WORKER_TYPE": "worker_type",
    "SERVICES": "worker_kinds",
    "GPU_COUNT": "gpu_count",
    "GPU_MEMORY_GB": "gpu_memory_gb",
    "GPU_MODEL": "gpu_model",
    "CPU_CORES": "cpu_cores",
    "RAM_GB": "ram_gb",
}
"""Each, and the setting that it stands for where that is not set itself."""
BACKENDS: Final = {"COMFYUI_URL": "comfyui", "A1111_URL": "a1111"}
"""Addresses of back ends, each the `url` of a connector whose kind and id is this, beside those of the settings."""
KINDS: Final = {"simulation": "simulate"}
"""Services that are kinds of another name here."""
TOKEN: Final = "HUB_AUTH_TOKEN"  # noqa: S105 - the name of a variable
REDIS: Final = "HUB_REDIS_URL"
REFUSED: Final = (
    f"{REDIS} is set, and no worker of Switchyard speaks Redis: name the broker with SWITCHYARD_NATS_URL or --nats, "
    "or the gateway with --rest, and unset it"
)


def said(environment: Mapping[str, str] = os.environ) -> dict[str, tuple[str, str]]:
    """By setting, what the older variables say, as that setting takes it, and the variable."""
    found = {
        name: (value, variable)
        for variable, name in SETTINGS.items()
        if (value := environment.get(variable, "").strip())
    }
    if "worker_name" in found:
        written, variable = found["worker_name"]
        found["worker_name"] = (_name(written), variable)
    if "worker_kinds" in found:
        written, variable = found["worker_kinds"]
        kinds = (kind.strip().lower() for kind in written.split(","))
        found["worker_kinds"] = (",".join(KINDS.get(kind, kind) for kind in kinds if kind), variable)
    return found


def backends(environment: Mapping[str, str] = os.environ) -> dict[str, tuple[dict[str, Any], str]]:
    """By id, the connectors that the older variables make, and the variable."""
    return {
        kind: ({"kind": kind, "url": value}, variable)
        for variable, kind in BACKENDS.items()
        if (value := environment.get(variable, "").strip())
    }


def _name(written: str) -> str:
    """A name as near to an older id as ours may be; those had any characters."""
    if is_name(written):
        return written
    near = re.sub(r"[^a-z0-9_]+", "-", written.lower()).strip("-_")[:MAX_NAME]
    return near or "worker"
