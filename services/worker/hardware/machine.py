"""What the machine has as a worker's capabilities, looked at again and again."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import structlog

from switchyard.services.settings import Settings
from switchyard.services.worker.hardware import gpus, limits
from switchyard.services.worker.hardware.gpus import Gpu
from switchyard.services.worker.hardware.program import Program

log = structlog.get_logger()

NVIDIA: Final = "nvidia-smi"
AMD: Final = "rocm-smi"
VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
PATIENCE: Final = 2
"""Looks in a row that learn nothing, after which GPUs found before count as gone."""


class Machine:
    """Finds what the machine has.

    Args:
        declared: what its operator says of it, by capability.
        looks: whether it looks by itself.
        again_s: seconds between two looks.
        root: where /proc and /sys stand.
    """

    def __init__(
        self,
        declared: Mapping[str, Mapping[str, Any]],
        *,
        looks: bool = True,
        again_s: float = 60.0,
        root: Path = limits.ROOT,
        nvidia: Program | None = None,
        amd: Program | None = None,
    ) -> None:
        self.declared = {name: dict(values) for name, values in declared.items() if values}
        self._looks = looks
        self._again_s = again_s
        self._root = root
        self._nvidia = nvidia or Program(NVIDIA)
        self._amd = amd or Program(AMD)
        self._gpus: dict[str, list[Gpu]] = {}
        self._unknown: dict[str, int] = {}
        self.found: dict[str, Any] = {}

    def look(self) -> dict[str, Any]:
        """What the machine has now, as capabilities; this may take some ten seconds.

        Returns:
            `gpu`, `cpu` and `ram` as far as they are known, `os` and `arch`; nothing where it is not to look.
        """
        if not self._looks:
            return {}
        visible = os.environ.get(VISIBLE)
        every = [
            *self._kept(self._nvidia, lambda program: gpus.nvidia(program, visible)),
            *self._kept(self._amd, gpus.amd),
        ]
        found: dict[str, Any] = {"os": platform.system().lower(), "arch": platform.machine()}
        if gpu := gpus.capability(every):
            found["gpu"] = gpu
        if (cores := limits.cores(self._root)) is not None:
            found["cpu"] = {"cores": cores}
        if (size_gb := limits.ram_gb(self._root)) is not None:
            found["ram"] = {"total_gb": size_gb}
        self.found = found
        return found

    def _kept(self, program: Program, find: Callable[[Program], list[Gpu] | None]) -> list[Gpu]:
        """The GPUs of a driver; those found before while its program once does not answer."""
        name = program.name
        if not program.is_there:
            return self._set(name, [])
        now = find(program)
        if now is not None:
            return self._set(name, now)
        self._unknown[name] = self._unknown.get(name, 0) + 1
        if self._unknown[name] >= PATIENCE and self._gpus.get(name):
            log.warning("gpus_unknown", program=name, effect="they count as gone until it answers")
            self._gpus[name] = []
        return self._gpus.get(name, [])

    def _set(self, name: str, found: list[Gpu]) -> list[Gpu]:
        self._unknown[name] = 0
        before = self._gpus.get(name, [])
        if len(found) < len(before):
            log.warning("gpus_gone", program=name, before=len(before), now=len(found))
        self._gpus[name] = found
        return found

    async def follow(self, changed: Callable[[], None]) -> None:
        """Look again and again, and call back when what is found has changed, until cancelled."""
        while self._looks:
            await asyncio.sleep(self._again_s)
            before = self.found
            if await asyncio.to_thread(self.look) != before:
                changed()


def machine_of(settings: Settings) -> Machine:
    """The machine of a worker with these settings."""
    return Machine(declared_of(settings), looks=settings.hardware, again_s=settings.hardware_s)


def declared_of(settings: Settings) -> dict[str, dict[str, Any]]:
    """What settings say of the machine, by capability."""
    said: dict[str, dict[str, Any]] = {
        "gpu": {
            "count": settings.gpu_count, "memory_gb": settings.gpu_memory_gb, "model": settings.gpu_model,
        },
        "cpu": {"cores": settings.cpu_cores},
        "ram": {"total_gb": settings.ram_gb},
        "worker": {"type": settings.worker_type},
    }  # fmt: skip
    return {
        name: {key: _plain(value) for key, value in values.items() if value is not None}
        for name, values in said.items()
        if any(value is not None for value in values.values())
    }


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def laid_over(found: Mapping[str, Any], declared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Capabilities with what is declared of the machine in place of what was found."""
    seen = dict(found)
    for name, values in declared.items():
        before = seen.get(name)
        seen[name] = {**(before if isinstance(before, dict) else {}), **values}
    declared_gpu = declared.get("gpu", {})
    if declared_gpu.get("count") == 0:
        del seen["gpu"]
    elif declared_gpu:
        gpu = seen["gpu"]
        gpu.setdefault("count", 1)
        if declared_gpu.keys() & {"count", "memory_gb"} and "memory_gb" in gpu:
            gpu["memory_total_gb"] = gpu["count"] * gpu["memory_gb"]
    return seen
