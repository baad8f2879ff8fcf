"""What a server has: which build it is, its checkpoints, VAEs, LoRAs, samplers, upscalers and scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeGuard

from switchyard.services.connectors.a1111.api import Api, ForbiddenError
from switchyard.services.connectors.a1111.names import base, plain
from switchyard.services.connectors.comfyui.api import AwayError, parsed

READ_S: Final = 60.0
NAME_CHARS: Final = 255
MIB: Final = 1024**2
MODELS: Final = "/sdapi/v1/sd-models"
VAES: Final = ("/sdapi/v1/sd-vae", "/sdapi/v1/sd-modules")
"""The latter in Forge, which has text encoders among them."""


class Inventory:
    """The models and others of a server, as last read.

    Args:
        names_bytes: that all names together may take.
    """

    def __init__(self, names_bytes: int) -> None:
        self._left = self._names_bytes = names_bytes
        self.found: dict[str, Any] = {}
        self.titles: dict[str, tuple[str, ...]] = {}
        """By each of its names, all names of a checkpoint."""
        self.loaded = ""
        """The checkpoint that the server's settings name, plain."""

    async def read(self, api: Api) -> None:
        """Read it again.

        Raises:
            AwayError: the server does not answer, or not as such servers do.
        """
        models = await api.get(MODELS, answer_s=READ_S)
        if not isinstance(models, list):
            raise AwayError("its models are none")
        options = _mapping(await _optional(api, "/sdapi/v1/options"))
        lists = {
            "loras": [each for path in ("/sdapi/v1/loras",) for each in _items(await _optional(api, path))],
            "vaes": [each for path in VAES for each in _items(await _optional(api, path))],
            "samplers": _items(await _optional(api, "/sdapi/v1/samplers")),
            "schedulers": _items(await _optional(api, "/sdapi/v1/schedulers")),
            "upscalers": _items(await _optional(api, "/sdapi/v1/upscalers")),
        }
        scripts = _mapping(await _optional(api, "/sdapi/v1/scripts"))
        memory: Any = await _optional(api, "/sdapi/v1/memory")
        for key in ("cuda", "system"):
            memory = _mapping(memory).get(key)
        self.titles = dict(_aliases(models))
        names: dict[str, Iterable[Any]] = {
            "checkpoints": {name for names in self.titles.values() for name in names},
            "loras": {base(each.get(key)) for each in lists["loras"] for key in ("name", "alias")},
            "vaes": {base(each.get("model_name")) for each in lists["vaes"]},
            "samplers": {
                name
                for each in lists["samplers"]
                for name in (each.get("name"), *_texts(each.get("aliases")))
            },
            "schedulers": {each.get(key) for each in lists["schedulers"] for key in ("name", "label")},
            "upscalers": {each.get("name") for each in lists["upscalers"]},
            "scripts": {text.lower() for value in scripts.values() for text in _texts(value)},
        }
        self._left, left_out = self._names_bytes, 0
        found: dict[str, Any] = {"build": _build(options)}
        for what, wanted in names.items():
            usable = sorted({name for name in wanted if is_name(name)})
            found[what] = self._within(usable)
            left_out += len(usable) - len(found[what])
        if left_out:
            found["left_out"] = left_out
        if isinstance(total := _mapping(memory).get("total"), int) and not isinstance(total, bool):
            found["vram_mib"] = total // MIB
        self.found = found
        self.loaded = plain(options.get("sd_model_checkpoint"))

    def names_of(self, checkpoint: str) -> tuple[str, ...]:
        """All names of the checkpoint that has this one; this one alone where it is not known."""
        return self.titles.get(checkpoint) or ((checkpoint,) if checkpoint else ())

    def _within(self, names: list[str]) -> list[str]:
        """Names as far as there is room for them."""
        found = []
        for name in names:
            self._left -= len(name.encode()) + 3
            if self._left < 0:
                break
            found.append(name)
        return found


def _aliases(models: list[Any]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """By each name of a checkpoint, all of them: its title, its file with and without folder, its hash."""
    for each in models:
        if isinstance(each, Mapping):
            title = plain(each.get("title"))
            said = (title, title.rpartition("/")[2], plain(each.get("model_name")), each.get("hash"))
            names = tuple(sorted({name for name in said if is_name(name)}))
            yield from ((name, names) for name in names)


def _build(options: Mapping[str, Any]) -> str:
    """Which build it is, as its settings show."""
    if any(name.startswith("forge_") for name in options):
        return "forge"
    if "diffusers_version" in options or "sd_backend" in options or "diffusers_offload_mode" in options:
        return "sdnext"
    return "a1111"


async def _optional(api: Api, path: str) -> Any:
    """What a route says that some builds do not have; None without.

    Raises:
        AwayError: the server does not answer.
    """
    status, body = await api.ask("GET", path, answer_s=READ_S)
    if status in (401, 403):
        raise ForbiddenError("it does not take the user and password of the section", answered=True)
    try:
        return await parsed(body) if status == 200 else None
    except AwayError:
        return None


def _items(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def is_name(value: Any) -> TypeGuard[str]:
    """Whether a value is a name that may be declared."""
    return isinstance(value, str) and 0 < len(value) <= NAME_CHARS and value.isprintable()
