"""What a payload needs of the server that does it: checkpoints, VAEs, LoRAs, scripts and upscalers.

A worker declares, as `a1111`: `checkpoints`, `vaes`, `loras`, `scripts` and `upscalers`, each a list of names
made alike by `a1111.names`; `loaded`, the names of the checkpoint that the server has in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from switchyard.events.requirements.matching import Clause
from switchyard.services.connectors.a1111 import names
from switchyard.services.connectors.derived.needs import Derivation, Needs

CHECKPOINTS: Final = "a1111.checkpoints"
LOADED: Final = "a1111.loaded"
WORDS: Final = {
    CHECKPOINTS: "checkpoint",
    "a1111.vaes": "VAE",
    "a1111.loras": "LoRA",
    "a1111.scripts": "script",
    "a1111.upscalers": "upscaler",
}
NAME_CHARS: Final = 255
SHOWN: Final = 5


def needs_of(payload: Mapping[str, Any]) -> Needs:
    """What a payload needs; nothing where it names nothing."""
    files = {
        CHECKPOINTS: names.checkpoints_of(payload),
        "a1111.vaes": names.vaes_of(payload),
        "a1111.loras": names.loras_of(payload),
    }
    shared = {"a1111.scripts": names.scripts_of(payload), "a1111.upscalers": names.upscalers_of(payload)}
    checkpoint = names.checkpoint_of(payload)
    return Needs(_all(shared), _all(files), {LOADED: {"$any": [checkpoint]}} if _is_name(checkpoint) else {})


def words_of(clause: Clause) -> str | None:
    """What a server lacks of a payload's needs, by name."""
    what = WORDS.get(clause.path)
    wanted = clause.wanted if clause.operator == "$all" else [clause.wanted]
    if what is None or clause.operator not in ("$has", "$all") or not isinstance(wanted, list):
        return None
    has = {name for name in clause.found if isinstance(name, str)} if isinstance(clause.found, list) else ()
    lacking = [name for name in wanted if name not in has]
    shown = ", ".join(lacking[:SHOWN])
    if len(lacking) > SHOWN:
        shown += f" and {len(lacking) - SHOWN} more"
    return f"the {what}{'s' if len(lacking) > 1 else ''} {shown}"


def _all(wanted: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, Any], ...]:
    found = {path: [name for name in each if _is_name(name)] for path, each in wanted.items()}
    return tuple({path: {"$all": each[: names.MOST_NAMES]}} for path, each in found.items() if each)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= NAME_CHARS and name.isprintable()


DERIVATION: Final = Derivation(needs_of, words_of)
