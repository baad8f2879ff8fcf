"""`docs/settings.md`, from the settings themselves."""

from __future__ import annotations

from typing import Final

from switchyard.services.settings.names import NOT_SETTINGS, PREFIX, variable_of
from switchyard.services.settings.sections import TABLES, WHOLE

INTRODUCTION: Final = """\
# Settings

Made by `make docs` from `services/settings/`. Sizes are bytes, times are seconds.

Each setting has one name. `SWITCHYARD_PORT` is `port` of the section `gateway`, and may come from, the first that says it:

1. an option of the command, such as `--port`;
2. the environment, as `SWITCHYARD_` and the name in capitals;
3. the file of settings, in the table of its section;
4. the default.

Values are not mixed: connectors in the environment replace all those of the file.

## The file

It is TOML in UTF-8 of at most 1 MiB. `switchyard --config FILE COMMAND` names it, or `SWITCHYARD_CONFIG`, which all processes
of a host may share: each reads what concerns it, once, when it starts. Paths in it are relative to the directory that a
process is started in. Lists may be written as lists.

```toml
[general]
data_dir = "/var/lib/switchyard"

[broker]
nats_url = "nats://switchyard:a-long-password@127.0.0.1:4222" # chmod 600: a password stands here

[gateway]
host = "0.0.0.0"
port = 8080
trusted_proxies = ["10.0.0.0/8"]

[leases]
lease_s = 45

[worker]
slots = 6

[connectors.large]
kind = "convert"
memory_bytes = 8_589_934_592
```

- `switchyard config check FILE` says what is wrong with a file, all at once and by line, and starts nothing. It leaves the
  environment aside, and the inside of connectors' tables, which the worker that runs one checks.
- `switchyard config show` prints every setting with its value, where that comes from, and what it means; `--changed` what is
  not a default, `--section NAME` one section, `--json` for programs. Passwords and what else is secret are shown as `***`.
- A name that is no setting is refused with the one that was probably meant, exit code 2, in the file and in the
  environment alike; so is a key in the table of another section. A limit that is not applied would be noticed by nobody.
- That holds for names that only a newer version has, too. Processes of several versions that share a file or an
  environment get a new name when the last of them has the newer version, or have files of their own until then.
- The Python client reads no file of settings: it takes `SWITCHYARD_DATA_DIR` from the environment, or an argument.

These variables are no settings, and stand in no file:

| variable | meaning |
|---|---|
"""


def page() -> str:
    """`docs/settings.md`."""
    lines = [f"| `{PREFIX}{name}` | {meaning} |" for name, meaning in NOT_SETTINGS.items()]
    lines += ["", "What Kubernetes sets beside a service that is called switchyard is left aside.", ""]
    for name, section in TABLES.items():
        title = f"[{name}.ID]" if name == WHOLE else f"[{name}]"
        lines += [f"## `{title}`", "", str(section.__doc__), ""]
        lines += ["| variable | default | meaning |", "|---|---|---|"]
        for setting, field in section.model_fields.items():
            default = field.get_default()
            shown = "" if default is None or default in ((), {}) else f"`{default}`"
            lines.append(f"| `{variable_of(setting)}` | {shown} | {field.description} |")
        lines.append("")
    return INTRODUCTION + "\n".join(lines)
