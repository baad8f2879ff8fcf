"""Names of settings in the environment and in the file, and what is said of one that is none."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

from switchyard.services.settings.sections import HOME, TABLES

PREFIX: Final = "SWITCHYARD_"
NOT_SETTINGS: Final = {
    "CONFIG": "the file of settings",
    "URL": "the gateway, for clients",
    "TOKEN": "the caller's token or API key, for clients",
    "LOG_LEVEL": "as `--log-level`",
    "LOG_FORMAT": "as `--log-format`",
    "CHILD": "marks the processes of a handler, which may start commands of ours",
}
"""All other variables of ours, without the prefix, and what each is for."""
OF_OTHERS: Final = {
    "JWT_SECRET": "task_jwt_secret",
    "API_SECRET_KEY": "octopoid_admin_key",
    "API_KEY": "ilios_keys",
    "WEBSOCKET_AUTH_TOKEN": "emp_token",
    "WS_AUTH_TOKEN": "emp_token",
    "WS_PORT": "emp_port",
    "HUB_PORT": "emp_port",
    "HUB_HOST": "emp_host",
    "AWS_ACCESS_KEY_ID": "s3_access_key_id",
    "AWS_SECRET_ACCESS_KEY": "s3_secret_access_key",
    "AWS_SESSION_TOKEN": "s3_session_token",
    "AWS_ENDPOINT_URL_S3": "s3_endpoint",
    "AWS_ENDPOINT_URL": "s3_endpoint",
    "AWS_REGION": "s3_region",
    "AWS_DEFAULT_REGION": "s3_region",
    "S3_BUCKET": "s3_bucket",
    "DEFAULT_JOB_PRIORITY": "emp_priority",
    "MAX_JOB_TIMEOUT_MINUTES": "emp_timeout_minutes",
}
"""Variables that the older systems read, and the setting that each stands for where it is not set itself.

The first counts where two stand for one setting.
"""
KUBERNETES: Final = re.compile(
    r"(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""What Kubernetes sets in every pod beside a service whose name begins with switchyard.

Source: its page on service discovery.
"""
KUBERNETES_URL: Final = re.compile(r"(tcp|udp|sctp)://")
"""And how the value of its variable `…_PORT` begins, which for a service named switchyard has our name."""
NAME_CHARS: Final = 80  # of a name that is none of ours, in a message


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def is_of_kubernetes(variable: str, value: str) -> bool:
    """Whether Kubernetes has set a variable with our prefix."""
    name = variable.removeprefix(PREFIX)
    is_port = name == "PORT" or name.endswith("_PORT")
    return bool(KUBERNETES.fullmatch(name) or (is_port and KUBERNETES_URL.match(value)))


def variable_fault(variable: str) -> str | None:
    """What is wrong with a variable that begins with our prefix, in whatever case; None if it is a setting.

    A name that only a later version has is refused like a misspelt one, because a limit that is not applied
    would be noticed by nobody.
    """
    name = variable[len(PREFIX) :]
    if variable.startswith(PREFIX) and (name in NOT_SETTINGS or (name.lower() in HOME and name.isupper())):
        return None
    known = [*NOT_SETTINGS, *map(str.upper, HOME)]
    near = _nearest(name.upper(), known)
    advice = f"; did you mean {PREFIX}{near}?" if near else "; docs/settings.md lists them"
    return f"there is no setting {variable[:NAME_CHARS]}{advice}"


def key_fault(table: str, key: str) -> str | None:
    """What is wrong with a key in a table that there is; None if it is a setting of that table."""
    home = HOME.get(key)
    if home == table:
        return None
    if home is not None:
        return f"{key} stands in [{table}] and belongs in [{home}]"
    written = key.lower().replace("-", "_")
    here = TABLES[table].model_fields
    near = written if written in HOME else _nearest(written, here) or _nearest(written, HOME)
    where = "" if near is None or HOME[near] == table else f" in [{HOME[near]}]"
    advice = f"; did you mean {near}{where}?" if near else "; docs/settings.md lists them"
    return f"there is no setting {key[:NAME_CHARS]} in [{table}]{advice}"


def table_fault(name: str, *, is_table: bool) -> str | None:
    """What is wrong with a name at the top of the file; None if it is a table of ours and one there."""
    if name in TABLES and is_table:
        return None
    if name in HOME and not is_table:
        return f"{name} stands in no table and belongs in [{HOME[name]}]"
    if name in TABLES:
        return f"[{name}] must be a table of settings"
    known = TABLES if is_table else HOME
    near = _nearest(name.lower().replace("-", "_"), known)
    if is_table:
        advice = f"; did you mean [{near}]?" if near else "; docs/settings.md lists them"
        return f"there is no table [{name[:NAME_CHARS]}]{advice}"
    advice = f"; did you mean {near} in [{HOME[near]}]?" if near else "; docs/settings.md lists them"
    return f"there is no setting {name[:NAME_CHARS]}, and none stands outside of a table{advice}"


def _nearest(name: str, known: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(name[:NAME_CHARS], list(known), n=1)
    return found[0] if found else None
