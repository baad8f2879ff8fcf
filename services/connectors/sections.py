"""The settings of connector instances, as the connectors of their kinds read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

import pydantic

from switchyard.connectors import ConnectorType, Section
from switchyard.events.errors import SwitchyardError
from switchyard.services.settings import GIB


class Limits(TypedDict):
    """What a connector with child processes is limited to."""

    slots: int
    memory_bytes: int


class InProcesses(Section):
    """The settings of a built-in connector, whose work is done in child processes.

    Args:
        slots: attempts at once.
        memory_bytes: address space of each of the processes.
    """

    slots: Annotated[int, pydantic.Field(ge=1)]
    memory_bytes: Annotated[int, pydantic.Field(ge=1)] = GIB

    def limits(self) -> Limits:
        """As connectors take them."""
        return {"slots": self.slots, "memory_bytes": self.memory_bytes}


class ConnectorsError(SwitchyardError):
    """A connector cannot be used; the message says which and why."""


def section_of(
    kind: ConnectorType[Any], name: str, written: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Section:
    """The settings of an instance.

    Args:
        kind: whose instance it is.
        name: its id.
        written: what its section says, without its id.
        defaults: what holds where it says nothing, as far as the kind has such settings.

    Raises:
        ConnectorsError: the kind has no such setting, a value is wrong, or one is missing.
    """
    fields = kind.section_model.model_fields
    values = {key: value for key, value in defaults.items() if key in fields and _is_wanted(fields[key])}
    try:
        return kind.section_model.model_validate({**values, **written, "id": name, "kind": kind.kind})
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        rule = f"{at}: {first['msg']}" if at else first["msg"]
        raise ConnectorsError(f"connector {name}: {rule}") from None


def _is_wanted(field: pydantic.fields.FieldInfo) -> bool:
    """Whether it has a value in any case; one that may be None is left as its kind has it."""
    return field.default is not None
