"""What `switchyard doctor` says of this host: Python, what is installed, the disk."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from typing import Final

from switchyard.services import distribution
from switchyard.services.broker.topology_spec import load
from switchyard.services.cli.doctor.check import Check
from switchyard.services.distribution import Extra
from switchyard.services.settings import GIB, Settings
from switchyard.services.settings.secrets import weakness_of

MIN_PYTHON: Final = (3, 11)
MIN_FREE_BYTES: Final = 2 * GIB


def python() -> Check:
    """Whether this Python is new enough."""
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info >= MIN_PYTHON:
        return Check("python", "ok", found)
    return Check("python", "fail", found, "install Python 3.11 or newer")


def packages() -> Iterator[Check]:
    """What is installed: the bare client and each extra whole, or not at all."""
    if not distribution.is_installed():
        yield Check(
            "packages", "warn", f"{distribution.NAME} itself is not installed", "pip install -e '.[all]'"
        )
        return
    if others := ", ".join(distribution.others()):
        yield Check(
            "import name", "fail", f"{others} installs a package `{distribution.MODULE}` too",
            f"pip uninstall {others}, then {distribution.how_to_install(options=distribution.AGAIN)}",
        )  # fmt: skip
    yield _installed("packages", "")
    for extra in distribution.MARKS:
        yield _installed(f"[{extra}]", extra)


def _installed(what: str, extra: Extra) -> Check:
    wrong = distribution.faults(extra)
    install = distribution.how_to_install(extra)
    if extra and distribution.is_absent(extra):
        return Check(what, "ok", "not installed", install)
    if wrong:
        return Check(what, "fail", "; ".join(wrong), install)
    return Check(what, "ok", f"{len(distribution.requirements(extra))} libraries as required")


def disk(settings: Settings) -> Check:
    """Whether there is room for data."""
    place = settings.data_dir.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    found = f"{free / GIB:.1f} GiB free at {place}"
    if settings.nats_url is None:
        found += f"; full streams take {load().reserved_bytes / GIB:.0f} GiB"
    if free >= MIN_FREE_BYTES:
        return Check("disk", "ok", found)
    return Check("disk", "warn", found, "free some space, or move the data directory with --data-dir")


def administrator(settings: Settings) -> Check:
    """Whether Octopoid's API has an administrator's key, as a gateway of this environment would see it."""
    what = "Octopoid's administrator"
    if settings.octopoid_admin_key is None:
        return Check(what, "ok", "none: API_SECRET_KEY is not set")
    weakness = weakness_of(settings.octopoid_admin_key.get_secret_value())
    if weakness is None:
        return Check(what, "ok", "whoever has API_SECRET_KEY acts for every scope")
    advice = "set one of 32 random characters, or none"
    return Check(what, "warn", f"none: API_SECRET_KEY is not used, because {weakness}", advice)


def privacy(settings: Settings) -> Check:
    """Whether other users of this host may look into the data directory."""
    place = settings.data_dir.absolute()
    if not place.exists():
        return Check("data directory", "ok", f"{place} is not made yet")
    if place.stat().st_mode & 0o007:
        return Check("data directory", "warn", f"{place} is open to all users", f"chmod 700 {place}")
    return Check("data directory", "ok", f"{place} is closed to other users")
