"""The file of settings: TOML, with a table for each section."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from switchyard.services.settings.errors import SHOWN, SettingsError
from switchyard.services.settings.names import key_fault, table_fault
from switchyard.services.settings.sections import WHOLE, Settings
from switchyard.services.settings.values import MIB

MOST_BYTES: Final = MIB
KEY_CHARS: Final = 200  # of a line, within which its key or table stands


class File(NamedTuple):
    """What a file says.

    Args:
        path: where it stands.
        values: by setting; not checked yet.
        lines: where each setting stands, from 1, as far as that is known.
        faults: names that are no settings or stand in the wrong table.
        is_open: whether every user of the host can read it.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[str, int]
    faults: list[str]
    is_open: bool


def read(path: Path) -> File:
    """Read a file of settings.

    Raises:
        SettingsError: it cannot be read, or is no TOML in UTF-8 of at most 1 MiB.
    """
    data, mode = _bytes_of(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SettingsError([f"the file of settings {path}:{line} is not UTF-8"]) from None
    try:
        tables = tomllib.loads(text)
    except RecursionError:
        raise SettingsError([f"the file of settings {path} is nested too deeply"]) from None
    except ValueError as error:
        raise SettingsError([f"the file of settings {path} is not TOML: {error}"]) from None
    at = dict(_places(text))
    found = File(path, {}, {}, [], is_open=bool(mode & stat.S_IROTH))
    for name, content in tables.items():
        _take(found, name, content, at)
    return found


def _bytes_of(path: Path) -> tuple[bytes, int]:
    """What stands in the file, and its mode."""
    try:
        mode = path.stat().st_mode  # asked first: opening a pipe would wait for its writer
        if not stat.S_ISREG(mode):
            what = "a directory" if stat.S_ISDIR(mode) else "no regular file"
            raise SettingsError([f"the file of settings {path} is {what}"])
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise SettingsError([f"the file of settings {path} cannot be read: {error.strerror}"]) from None
    except ValueError as error:  # a path with a NUL
        raise SettingsError([f"the file of settings cannot be read: {error}"]) from None
    if len(data) > MOST_BYTES:
        raise SettingsError([f"the file of settings {path} has more than {MOST_BYTES} bytes"])
    return data, mode


def _take(found: File, table: str, content: Any, at: dict[tuple[str, str], int]) -> None:
    is_table = isinstance(content, dict)
    fault = table_fault(table, is_table=is_table) if len(found.faults) <= SHOWN else "…"
    if fault is not None:
        line = at.get((table, "")) if is_table else at.get(("", table))
        found.faults.append(f"{_place(found.path, line)}: {fault}")
    elif table == WHOLE:
        _set(found, WHOLE, content, at.get((WHOLE, "")))
    else:
        for key, value in content.items():
            line = at.get((table, key))
            fault = key_fault(table, key) if len(found.faults) <= SHOWN else "…"
            if fault is not None:
                found.faults.append(f"{_place(found.path, line)}: {fault}")
            elif isinstance(value, bool) and Settings.model_fields[key].annotation is not bool:
                found.faults.append(
                    f"{_place(found.path, line)}: {key} in [{table}] takes neither true nor false"
                )
            else:
                _set(found, key, value, line)


def _set(found: File, name: str, value: Any, line: int | None) -> None:
    found.values[name] = value
    if line is not None:
        found.lines[name] = line


def _place(path: Path, line: int | None) -> str:
    return f"{path}:{line}" if line else str(path)


def _places(text: str) -> Iterator[tuple[tuple[str, str], int]]:
    """The line of each key by table and key, and of each table by its name and ""; the first of several.

    People alone read them: what is written in an unusual way has no line.
    """
    table = ""
    seen: set[tuple[str, str]] = set()
    for number, line in enumerate(text.split("\n"), 1):
        start = line[:KEY_CHARS].strip()
        name, equals, _ = start.partition("=")
        if start.startswith("["):
            table = _bare(start.lstrip("[").partition("]")[0])
            keys = [(table, "")]
            if "." in table:
                keys.append((table.partition(".")[0], ""))
        elif equals:
            name = _bare(name)
            keys = [(table, name)]
            if not table and "." in name:
                first, _, rest = name.partition(".")
                keys += [(first, rest), (first, "")]
        else:
            continue
        for each in keys:
            if each not in seen:
                seen.add(each)
                yield each, number


def _bare(name: str) -> str:
    return ".".join(part.strip().strip("\"'") for part in name.split("."))
