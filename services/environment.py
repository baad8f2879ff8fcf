"""The settings of this process, as its environment says them."""

from __future__ import annotations

import difflib
import os
import re
from typing import Final

from switchyard.events.errors import SwitchyardError
from switchyard.services.settings import Settings

PREFIX: Final = "SWITCHYARD_"


OTHERS: Final = frozenset({"URL", "TOKEN", "LOG_LEVEL", "LOG_FORMAT", "CHILD"})
"""Variables that are read elsewhere; the last marks a handler's processes, which may start commands."""


KUBERNETES: Final = re.compile(
    r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes sets in every pod beside a service named switchyard.

Source: its page on service discovery.
"""


class UnknownSettingError(SwitchyardError):
    """The environment names a setting that does not exist."""


def from_environment(**overrides: object) -> Settings:
    """The settings of this process: defaults, then the environment, then `overrides` that are not None.

    Raises:
        UnknownSettingError: a variable of ours is none of them.
        pydantic.ValidationError: a value is not what its setting takes.
    """
    for variable in os.environ:
        if variable.upper().startswith(PREFIX):
            _check_known(variable)
    values: dict[str, object] = {
        name: os.environ[variable]
        for name in Settings.model_fields
        if (variable := f"SWITCHYARD_{name.upper()}") in os.environ
    }
    values.update({name: value for name, value in overrides.items() if value is not None})
    return Settings.model_validate(values)


def _check_known(variable: str) -> None:
    name = variable[len(PREFIX) :]
    known = {*OTHERS, *map(str.upper, Settings.model_fields)}
    if variable.startswith(PREFIX) and (name in known or KUBERNETES.fullmatch(name)):
        return
    near = difflib.get_close_matches(name.upper(), sorted(known), n=1)
    advice = f"; did you mean {PREFIX}{near[0]}?" if near else "; docs/settings.md lists them"
    raise UnknownSettingError(f"there is no setting {variable}{advice}")
