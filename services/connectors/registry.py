"""The kinds that there are connectors for: those of Switchyard, and those of other distributions."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

import pydantic

from switchyard.connectors import GROUP, ConnectorType, Section
from switchyard.events.outcome import exception_text
from switchyard.events.subjects import is_name
from switchyard.services.connectors.derived.needs import Derivation, named
from switchyard.services.connectors.protocol import Connector
from switchyard.services.connectors.sections import ConnectorsError, section_of
from switchyard.services.distribution import Extra

if TYPE_CHECKING:
    from switchyard.events.requirements.matching import Clause

# By name, so that a process holds only what it needs.
_CLASSES: Final = {
    "a1111": "switchyard.services.connectors.a1111.connector:A1111Connector",
    "comfyui": "switchyard.services.connectors.comfyui.connector:ComfyConnector",
    "convert": "switchyard.services.connectors.convert.connector:ConvertConnector",
    "simulate": "switchyard.services.connectors.simulate:SimulateConnector",
}

_DERIVATIONS: Final = {
    "a1111": "switchyard.services.connectors.derived.a1111:DERIVATION",
    "comfyui": "switchyard.services.connectors.derived.comfyui:DERIVATION",
    "convert": "switchyard.services.connectors.derived.convert:DERIVATION",
}

EXTRAS: Final[dict[str, Extra]] = {"convert": "documents"}
"""What has to be installed for a kind beside a worker."""

NEED_SETTINGS: Final = frozenset({"a1111", "comfyui"})
"""Kinds that run only where a section says where their back end is."""


def _class(kind: str) -> Any:
    module, _, name = _CLASSES[kind].partition(":")
    return getattr(import_module(module), name)


def _make(kind: str, **limits: int) -> Connector:
    if kind in NEED_SETTINGS:
        raise ConnectorsError(f"connector {kind}: it needs a section with settings")
    connector: Connector = _class(kind)(**limits)
    return connector


CONNECTORS: Final[dict[str, Callable[..., Connector]]] = {kind: partial(_make, kind) for kind in _CLASSES}
"""The kinds that Switchyard runs itself; each makes its connector from `slots`, the attempts at once, and
`memory_bytes`, the address space of each of its child processes."""


def payload_model(kind: str) -> type[pydantic.BaseModel] | None:
    """What a payload of `kind` must look like, or None for a kind that Switchyard does not know."""
    model: type[pydantic.BaseModel] | None = _class(kind).payload_model if kind in _CLASSES else None
    return model


def derives(kind: str) -> bool:
    """Whether what a payload of `kind` needs of a worker is derived from it."""
    return kind in _DERIVATIONS


def derivation(kind: str) -> Derivation | None:
    """How what a payload of `kind` needs of a worker is found out; None where it is not."""
    if kind not in _DERIVATIONS:
        return None
    module, _, name = _DERIVATIONS[kind].partition(":")
    found: Derivation = getattr(import_module(module), name)
    return found


def in_words(kind: str, clause: Clause) -> Clause:
    """A part of a requirement that a worker fails; one that was derived in the words of its kind."""
    derived = derivation(kind)
    words = None if derived is None else derived.words(clause)
    return clause if words is None else named(clause, words)


# --- Those of other distributions


def installed() -> dict[str, str]:
    """By kind, the connectors that other distributions offer, each with why it is not used, or "".

    Nothing of them is imported.
    """
    return {kind: _clash(kind, offers) for kind, offers in sorted(_offers().items())}


def connector_type(kind: str) -> ConnectorType[Any]:
    """What makes the instances of a kind; the code of another distribution is imported now.

    Raises:
        ConnectorsError: there is none, two distributions offer one, or it cannot be loaded.
    """
    if kind in _CLASSES:
        built_in: ConnectorType[Any] = _class(kind)
        return built_in
    offers = _offers().get(kind, [])
    if not offers:
        known = ", ".join([*CONNECTORS, *installed()])
        raise ConnectorsError(f"there is no connector of kind {kind!r}; there are {known}")
    if why := _clash(kind, offers):
        raise ConnectorsError(why)
    return _loaded(offers[0])


def instance(name: str, written: Mapping[str, Any], defaults: Mapping[str, Any]) -> Connector:
    """A connector, made from its section.

    Args:
        name: the id of the instance.
        written: its section: `kind`, and what else it says.
        defaults: `slots` and `memory_bytes`, where the section does not say them.

    Raises:
        ConnectorsError: as `connector_type`, the section cannot be used, or what makes the instance fails.
    """
    kind = written.get("kind", name)
    if not isinstance(kind, str):
        raise ConnectorsError(f"connector {name}: kind: a name was expected")
    if written.get("id", name) != name:
        raise ConnectorsError(f"connector {name}: its section has another id, {written['id']!r}")
    made_by = connector_type(kind)
    section = section_of(
        made_by, name, {key: written[key] for key in written if key not in ("kind", "id")}, defaults
    )
    try:
        made = made_by.make(section)
        made_id, made_kind, slots = made.id, made.kind, made.slots
    except (Exception, SystemExit) as error:
        raise ConnectorsError(f"connector {name}: {exception_text(error)}") from error
    if (made_id, made_kind) != (name, kind):
        raise ConnectorsError(f"connector {name}: it was made as {made_id!r} of kind {made_kind!r}")
    if slots is not None and (type(slots) is not int or slots < 1):
        raise ConnectorsError(f"connector {name}: slots: at least 1 was expected, or None")
    return made


@functools.cache
def _offers() -> dict[str, list[EntryPoint]]:
    """The entry points by name; a distribution that is found twice on the path counts once."""
    found: dict[str, dict[tuple[str, str], EntryPoint]] = defaultdict(dict)
    for point in entry_points(group=GROUP):
        found[point.name][_owner(point), point.value] = point
    return {kind: list(offers.values()) for kind, offers in found.items()}


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unnamed distribution"


def _clash(kind: str, offers: list[EntryPoint]) -> str:
    """Why the connectors that are offered for a kind are not used."""
    owners = sorted(map(_owner, offers))
    if not is_name(kind):
        return f"the connector {kind!r} of {owners[0]} is no kind: a-z, 0-9, _ and -, at most 63"
    if kind in _CLASSES:
        return f"the connector {kind!r} of {' and '.join(owners)} is not used: the kind is built in"
    if len(offers) > 1:
        return f"the connectors {kind!r} of {' and '.join(owners)} are not used: only one may be installed"
    return ""


def _loaded(point: EntryPoint) -> ConnectorType[Any]:
    what = f"the connector {point.name!r} of {_owner(point)}"
    try:
        found: ConnectorType[Any] = point.load()
    except (Exception, SystemExit) as error:
        raise ConnectorsError(f"{what} cannot be loaded ({point.value}): {exception_text(error)}") from error
    model = getattr(found, "section_model", None)
    if not (isinstance(model, type) and issubclass(model, Section)):
        raise ConnectorsError(f"{what} has no section_model that is a Section ({point.value})")
    if getattr(found, "kind", None) != point.name or not callable(getattr(found, "make", None)):
        raise ConnectorsError(f"{what} has another kind, or no function make ({point.value})")
    return found
