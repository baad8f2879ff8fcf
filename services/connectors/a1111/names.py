"""The names of models, as payloads and servers write them, made alike.

Checkpoints are named by file with or without folder, suffix and `[hash]`, or by their hash alone; LoRAs by
file or alias, within the prompt. All functions are pure and take values of any type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

LORA: Final = re.compile(r"<(?:lora|lyco):([^:<>]{1,200})(?::[^<>]{0,200})?>", re.IGNORECASE)
_HASH: Final = re.compile(r"\s*\[[0-9a-fA-F]{6,64}\]\s*\Z")
_SUFFIX: Final = re.compile(r"\.(?:safetensors|sft|ckpt|pt|pth|bin|gguf|onnx)\Z", re.IGNORECASE)
NONE: Final = frozenset({"", "none", "automatic", "use same checkpoint", "use same upscaler"})
"""Values that name no model, in small letters."""
TEXTS: Final = ("prompt", "negative_prompt", "hr_prompt", "hr_negative_prompt")
MOST_NAMES: Final = 64


def plain(name: Any) -> str:
    """A model's name without hash and suffix and with `/` in paths; "" for what names none."""
    if not isinstance(name, str) or name.strip().lower() in NONE:
        return ""
    return _SUFFIX.sub("", _HASH.sub("", name).strip().replace("\\", "/"))


def base(name: Any) -> str:
    """The last part of a model's name."""
    return plain(name).rpartition("/")[2]


def settings_of(payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings that a payload overrides."""
    found = payload.get("override_settings")
    return found if isinstance(found, Mapping) else {}


def checkpoint_of(payload: Mapping[str, Any]) -> str:
    """The checkpoint that a payload names, plain; "" for the one that the server has loaded."""
    return plain(settings_of(payload).get("sd_model_checkpoint"))


def checkpoints_of(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """All checkpoints that it needs: also those of refiner and second pass."""
    wanted = [
        checkpoint_of(payload),
        plain(payload.get("refiner_checkpoint")),
        plain(payload.get("hr_checkpoint_name")) if payload.get("enable_hr") is True else "",
    ]
    return tuple(sorted({name for name in wanted if name}))


def vaes_of(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The VAEs and text encoders that it names, by the last part of their names."""
    settings = settings_of(payload)
    modules = settings.get("forge_additional_modules")
    wanted = [settings.get("sd_vae"), *(modules[:MOST_NAMES] if isinstance(modules, list) else ())]
    return tuple(sorted({base(name) for name in wanted if base(name)}))


def loras_of(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The LoRAs that its prompts name, by the last part of their names."""
    found = {name for text in _texts(payload) for each in LORA.finditer(text) if (name := base(each[1]))}
    return tuple(sorted(found)[:MOST_NAMES])


def _texts(payload: Mapping[str, Any]) -> Iterator[str]:
    for name in TEXTS:
        if isinstance(text := payload.get(name), str):
            yield text


def scripts_of(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The scripts that it names, in small letters, as servers list them."""
    always = payload.get("alwayson_scripts")
    wanted = [payload.get("script_name"), *(list(always)[:MOST_NAMES] if isinstance(always, Mapping) else ())]
    return tuple(sorted({name.lower() for name in wanted if isinstance(name, str) and name}))


def upscalers_of(payload: Mapping[str, Any]) -> tuple[str, ...]:
    """The upscalers that it names; those of latents are a part of every server."""
    wanted = [payload.get("upscaler_1"), payload.get("upscaler_2")]
    if payload.get("enable_hr") is True:
        wanted.append(payload.get("hr_upscaler"))
    found = {name for name in wanted if isinstance(name, str) and name.lower() not in NONE}
    return tuple(sorted(name for name in found if not name.lower().startswith("latent")))
