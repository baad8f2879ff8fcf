"""The settings of this process, and where each comes from.

An option of the command line is before the environment, that before the file, that before the default.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import pydantic
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict

from switchyard.services.settings.errors import SettingsError
from switchyard.services.settings.file import File, read
from switchyard.services.settings.names import (
    OF_OTHERS,
    PREFIX,
    is_of_kubernetes,
    variable_fault,
    variable_of,
)
from switchyard.services.settings.older import worker as older_worker
from switchyard.services.settings.secrets import SECRET, masked, without_password
from switchyard.services.settings.sections import HOME, Settings
from switchyard.services.visible import redacted

CONFIG: Final = "SWITCHYARD_CONFIG"
OPTIONS: Final = {
    "nats_url": "--nats", "lease_s": "--lease", "worker_name": "--name", "drain_grace_s": "--drain-within",
    "exit_when_idle_s": "--exit-when-idle",
}  # fmt: skip
"""Options that are not called as their setting."""
SHOWN_CHARS: Final = 80  # of a value, in a message


class Place(NamedTuple):
    """Where a value comes from.

    Args:
        kind: what it is.
        name: the option, the variable or the file; "" for a default.
        line: in the file, from 1, where it is known.
    """

    kind: Literal["option", "environment", "file", "default"]
    name: str = ""
    line: int | None = None

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        return f"{self.name}:{self.line}" if self.line else self.name


class Loaded(NamedTuple):
    """The settings of a process.

    Args:
        settings: all of them.
        places: where each that is not a default comes from, by name.
        warnings: one sentence each.
        file: the file that was read.
    """

    settings: Settings
    places: dict[str, Place]
    warnings: list[str]
    file: Path | None


class _Sources(Settings, BaseSettings):
    """What the library looks for; the values are checked as `Settings`, once, with all that is wrong."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, enable_decoding=False, defer_build=True)


Older = Literal["aside", "shown", "taken"]
"""What becomes of the variables of `older_worker`; where they are shown, one that cannot be used is a warning."""


def load_settings(
    options: Mapping[str, Any] | None = None, config: Path | None = None, *, older: Older = "aside"
) -> Loaded:
    """The settings of this process.

    Args:
        options: what the command line says, by setting; None where it says nothing.
        config: the file; that of SWITCHYARD_CONFIG by default.
        older: whether the variables of older workers count.

    Raises:
        SettingsError: the file cannot be read, a name is none of ours, or a value is not what its setting takes.
    """
    given = {name: value for name, value in (options or {}).items() if value is not None}
    path = config or (Path(named) if (named := os.environ.get(CONFIG)) else None)
    file = None if path is None else read(path)
    ours = {name: value for name, value in os.environ.items() if name.upper().startswith(PREFIX)}
    foreign = {name for name, value in ours.items() if is_of_kubernetes(name, value)}
    faults = [fault for name in sorted(ours.keys() - foreign) if (fault := variable_fault(name))]
    said = EnvSettingsSource(_Sources)()
    environment = {
        name: said[name] for name in HOME if name in said and variable_of(name) in ours.keys() - foreign
    }
    places = {name: Place("environment", variable_of(name)) for name in environment}
    for variable, name in OF_OTHERS.items():
        if name not in environment and (value := os.environ.get(variable)):
            environment[name], places[name] = value, Place("environment", variable)
    warnings: list[str] = []
    if older != "aside":
        for name, (value, variable) in older_worker.said().items():
            if name in environment:
                continue
            place = Place("environment", variable)
            if older == "shown" and (fault := _fault_of(name, value, place)) is not None:
                warnings.append(f"{fault}; `switchyard worker` would refuse it")
                continue
            environment[name], places[name] = value, place
    places |= {name: Place("option", OPTIONS.get(name, f"--{name.replace('_', '-')}")) for name in given}
    values = environment | InitSettingsSource(_Sources, given)()
    found = _checked(values, places, faults, file)
    found.warnings.extend(warnings)
    return found if older == "aside" else _with_backends(found)


def _fault_of(name: str, value: Any, place: Place) -> str | None:
    try:
        Settings.model_validate({name: value})
    except pydantic.ValidationError as error:
        return _fault(error.errors(include_url=False, include_context=False)[0], {name: place})
    return None


def _with_backends(found: Loaded) -> Loaded:
    """The settings with the connectors of older variables, each where none of its kind or id is there."""
    there = found.settings.connectors
    taken = {*there, *(str(section.get("kind", name)) for name, section in there.items())}
    new = {name: each for name, each in older_worker.backends().items() if name not in taken}
    if not new:
        return found
    connectors = there | {name: section for name, (section, _) in new.items()}
    variables = " and ".join(variable for _, variable in new.values())
    before = found.places.get("connectors")
    place = Place("environment", variables if before is None else f"{before}, {variables}")
    return found._replace(
        settings=found.settings.model_copy(update={"connectors": connectors}),
        places=found.places | {"connectors": place},
    )


def load_file(path: Path) -> Loaded:
    """The settings that a file and the defaults make, whatever the environment says.

    Raises:
        SettingsError: as `load_settings`.
    """
    return _checked({}, {}, [], read(path))


def _checked(
    values: Mapping[str, Any], places: Mapping[str, Place], faults: list[str], file: File | None
) -> Loaded:
    """The settings that the file has, and `values` before it."""
    all_values, all_places = dict(values), dict(places)
    if file is not None:
        faults = [*faults, *file.faults]
        beside = InitSettingsSource(_Sources, file.values)()
        all_values = beside | all_values
        lines = {name: Place("file", str(file.path), file.lines.get(name)) for name in beside}
        all_places = lines | all_places
    try:
        settings = Settings.model_validate(all_values)
    except pydantic.ValidationError as error:
        order = {name: number for number, name in enumerate(HOME)}
        wrong = error.errors(include_url=False, include_context=False)
        wrong.sort(key=lambda each: order.get(str(each["loc"][0]) if each["loc"] else "", 0))
        raise SettingsError([*faults, *(_fault(each, all_places) for each in wrong)]) from None
    if faults:
        raise SettingsError(faults)
    if file is None:
        return Loaded(settings, all_places, [], None)
    return Loaded(settings, all_places, _warnings(file, settings, all_places), file.path)


def _warnings(file: File, settings: Settings, places: Mapping[str, Place]) -> list[str]:
    ours = {
        name: getattr(settings, name) for name in SECRET if name in places and places[name].kind == "file"
    }
    if file.is_open and any(masked(name, value) != value for name, value in ours.items()):
        return [f"every user of this host can read {file.path}, which holds a secret: chmod o-r"]
    return []


def _fault(error: Any, places: Mapping[str, Place]) -> str:
    """One sentence with the setting, its place and the rule."""
    name, *within = map(str, error["loc"] or ("",))
    rule = error["msg"].removeprefix("Value error, ")
    place = places.get(name)
    where = "" if place is None else f", from {place}"
    inside = "".join(f", {part}" for part in within if not part.startswith("function-"))
    value = ""
    if (
        name not in SECRET
        and error["type"] != "value_error"
        and isinstance(error["input"], str | int | float)
    ):
        value = f", not {without_password(redacted(str(error['input'])))[:SHOWN_CHARS]!r}"
    return f"setting {name}{inside}{where}: {rule[0].lower()}{rule[1:]}{value}"
