"""What a server has: version, devices, node classes of packages, models by folder, samplers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from switchyard.services.connectors.comfyui.api import Api, AwayError
from switchyard.services.connectors.comfyui.stock import STOCK

DEVICES: Final = 32
FOLDERS: Final = 100
NAME_CHARS: Final = 255
MIB: Final = 1024**2
NO_MODELS: Final = ("custom_nodes", "configs")
CUSTOM: Final = re.compile(r"custom_nodes\.([^.]+)")
READ_S: Final = 60.0
"""For the description of all classes, some megabytes, of a server that is at work."""


async def stats(api: Api, *, answer_s: float) -> dict[str, Any]:
    """What `/system_stats` says: version and devices.

    Raises:
        AwayError: it does not say it as ComfyUI does.
    """
    said = await api.get("/system_stats", answer_s=answer_s)
    system = said.get("system") if isinstance(said, dict) else None
    if not isinstance(system, dict):
        raise AwayError("what answers there is no ComfyUI")
    devices = said.get("devices")
    found = [device for each in devices if (device := _device(each))] if isinstance(devices, list) else []
    version = system.get("comfyui_version")
    return {
        "version": _name(version) or "unknown",
        "devices": found[:DEVICES],
        "vram_mib": max((device["vram_mib"] for device in found), default=0),
    }


def _device(value: Any) -> dict[str, Any] | None:
    if not isinstance(value, dict):
        return None
    total = value.get("vram_total")
    size = total // MIB if isinstance(total, int) and not isinstance(total, bool) else 0
    return {"name": _name(value.get("name")) or "unknown", "type": _name(value.get("type")), "vram_mib": size}


async def has_jobs(api: Api) -> bool:
    """Whether it is of the generation that has `/api/jobs`.

    Raises:
        AwayError: it does not answer.
    """
    status, _ = await api.ask("GET", "/api/jobs?limit=1")
    return status == 200


class Inventory:
    """The nodes and models of a server, as last read.

    Args:
        names_bytes: that all names together may take.
    """

    def __init__(self, names_bytes: int) -> None:
        self._left = self._names_bytes = names_bytes
        self.found: dict[str, Any] = {}
        self.output_classes: frozenset[str] | None = None
        """The classes that show something; None until that was read."""
        self.file_inputs: frozenset[tuple[str, str]] = frozenset()
        """Class and name of the inputs that take a file."""

    async def read(self, api: Api) -> None:
        """Read it again.

        Raises:
            AwayError: the server does not answer, or not as ComfyUI does.
        """
        info = await api.get("/object_info", answer_s=READ_S)
        if not isinstance(info, dict):
            raise AwayError("its nodes are none")
        models = await _models(api)
        self.file_inputs = frozenset(_file_inputs(info))
        self._left = self._names_bytes
        wanted = [name for name in info if name not in STOCK]
        packages = {
            found[1]
            for each in info.values()
            if isinstance(each, dict) and isinstance(module := each.get("python_module"), str)
            if (found := CUSTOM.match(module))
        }
        total = len(wanted) + len(packages) + sum(map(len, models.values()))
        self.found = {
            "nodes": (nodes := self._within(wanted)),
            "packages": (held := self._within(packages)),
            "models": (files := {folder: self._within(names) for folder, names in sorted(models.items())}),
            "samplers": self._within(_choices(info, "KSampler", "sampler_name")),
            "schedulers": self._within(_choices(info, "KSampler", "scheduler")),
        }
        if (kept := len(nodes) + len(held) + sum(map(len, files.values()))) < total:
            self.found["left_out"] = total - kept
        self.output_classes = frozenset(
            name for name, each in info.items() if isinstance(each, dict) and each.get("output_node") is True
        )

    def _within(self, names: Any) -> list[str]:
        """Names, sorted, as far as there is room for them."""
        found = []
        for name in sorted({each for each in names if _name(each)}):
            self._left -= len(name.encode()) + 3
            if self._left < 0:
                break
            found.append(name)
        return found


async def _models(api: Api) -> dict[str, list[Any]]:
    folders = await api.get("/models")
    found: dict[str, list[Any]] = {}
    for folder in (
        sorted({each for each in folders if _name(each)})[:FOLDERS] if isinstance(folders, list) else ()
    ):
        if folder in NO_MODELS or re.fullmatch(r"[A-Za-z0-9_.-]+", folder) is None:
            continue
        names = await api.get(f"/models/{folder}")
        if isinstance(names, list) and names:
            found[folder] = [name.replace("\\", "/") for name in names if isinstance(name, str)]
    return found


def _file_inputs(info: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Inputs into which the editor uploads: their options have a name such as `image_upload`."""
    for class_type, said in info.items():
        sections = said.get("input") if isinstance(said, dict) else None
        for inputs in sections.values() if isinstance(sections, dict) else ():
            for name, spec in inputs.items() if isinstance(inputs, dict) else ():
                options = spec[1] if isinstance(spec, list) and len(spec) > 1 else None
                if isinstance(options, dict) and any(option.endswith("_upload") for option in options):
                    yield class_type, name


def _choices(info: Mapping[str, Any], class_type: str, name: str) -> list[Any]:
    """The values that an input may have: a list, or `["COMBO", {"options": list}]` in later builds."""
    spec: Any = info.get(class_type)
    for key in ("input", "required", name):
        spec = spec.get(key) if isinstance(spec, dict) else None
    if not isinstance(spec, list) or not spec:
        return []
    if isinstance(spec[0], list):
        return spec[0]
    options = spec[1].get("options") if len(spec) > 1 and isinstance(spec[1], dict) else None
    return options if isinstance(options, list) else []


def _name(value: Any) -> str:
    return value if isinstance(value, str) and 0 < len(value) <= NAME_CHARS and value.isprintable() else ""
