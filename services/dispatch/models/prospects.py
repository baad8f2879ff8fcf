"""What a worker would have to fetch for a job, whether it may, and how that stands: pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, NamedTuple

from switchyard.events.lane import LaneKey
from switchyard.events.requirements.matching import explain, matches
from switchyard.services.connectors.derived.needs import File
from switchyard.services.connectors.registry import derivation
from switchyard.services.records.models.record import Fetch
from switchyard.services.records.models.store import Found
from switchyard.services.records.workers import WorkerRecord, rest_tenant

SHOWN: Final = 3
MINUTE_S: Final = 60.0


class Shelf(NamedTuple):
    """What is known of model files, by folder and name.

    Args:
        find: the catalogue's entry.
        fetch: who fetches one now.
        fault: why an entry cannot be fetched by anybody; "" where it can.
    """

    find: Callable[[str, str], Found | None]
    fetch: Callable[[str, str], Fetch | None]
    fault: Callable[[Found], str] = lambda _found: ""


NOTHING: Final = Shelf(lambda _folder, _name: None, lambda _folder, _name: None)


class State(StrEnum):
    """How it stands with what a worker lacks, the nearest first."""

    FETCHING = "fetching"
    FETCHABLE = "fetchable"
    FAILED = "failed"
    NO_ROOM = "no_room"
    LIMIT = "limit"
    VRAM = "vram"
    KEPT = "kept"
    NO_FETCHES = "no_fetches"
    NO_ENTRY = "no_entry"


ORDER: Final = tuple(State)


class Outlook(NamedTuple):
    """What it would take for a worker to have all files that a job needs.

    Args:
        state: how it stands.
        instance: the id of its connector that is nearest; "" for its only one.
        files: what it lacks.
        size_bytes: that of what it lacks, as the catalogue says.
        message: about the worker, as the end of a sentence that begins with it.
        fetch: what is on its way to it.
    """

    state: State
    instance: str
    files: tuple[File, ...]
    size_bytes: int
    message: str
    fetch: Fetch | None = None

    @property
    def is_near(self) -> bool:
        """Whether the worker will fit without anybody's doing."""
        return self.state in (State.FETCHING, State.FETCHABLE)


class Offer(NamedTuple):
    """What a connector says of the fetches that it may do.

    Args:
        limit_bytes: that all files which it has fetched may have together.
        room_bytes: that a fetch may have now, once all that may go is gone.
        vram_mib: memory of its GPU.
        failed: by path, the revision of an entry that it does not fetch again, and why.
    """

    limit_bytes: int
    room_bytes: int
    vram_mib: int
    failed: Mapping[str, tuple[int, str]]


def offer_of(kind: str, capabilities: Mapping[str, Any]) -> Offer | None:
    """What a worker offers to fetch for a kind; None for nothing, or what is no offer."""
    said = capabilities.get(kind)
    offer = said.get("fetch") if isinstance(said, Mapping) else None
    if not isinstance(said, Mapping) or not isinstance(offer, Mapping):
        return None
    limit, room = _number(offer.get("limit_bytes")), _number(offer.get("room_bytes"))
    if limit is None or room is None:
        return None
    failed = offer.get("failed")
    known = {
        each["model"]: (revision, str(each.get("reason", "")))
        for each in (failed if isinstance(failed, list) else ())
        if isinstance(each, Mapping)
        and isinstance(each.get("model"), str)
        and (revision := _number(each.get("revision"))) is not None
    }
    return Offer(limit, room, _number(said.get("vram_mib")) or 0, known)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def missing_of(kind: str, requires: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[File, ...] | None:
    """The files that are all that capabilities lack; () if they lack nothing, None if they lack more."""
    clauses = list(explain(requires, found))
    if not clauses:
        return ()
    derived = derivation(kind)
    if derived is None:
        return None
    files: set[File] = set()
    for clause in clauses:
        lacking = derived.files(clause)
        if lacking is None:
            return None
        files.update(lacking)
    if not files or not matches(requires, derived.having(found, files)):
        return None
    return tuple(sorted(files))


def named_in(kind: str, requires: Mapping[str, Any]) -> list[File]:
    """All files that a requirement names."""
    derived = derivation(kind)
    if derived is None:
        return []
    return sorted({file for clause in explain(requires, {}) for file in derived.files(clause) or ()})


def abilities(record: WorkerRecord, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """By the id of each connector of a kind, what its jobs find; "" for the only one."""
    own = [(one.id, record.capabilities | one.capabilities) for one in record.instances if one.kind == kind]
    yield from own or [("", record.capabilities)]


def outlook(record: WorkerRecord, key: LaneKey, shelf: Shelf, tenants: Collection[str]) -> Outlook | None:
    """The nearest that a worker comes to a lane by fetching; None where files are not what it lacks.

    Args:
        record: that of a worker that runs the kind and is admitted.
        key: with all that a job requires.
        shelf: what is known of files.
        tenants: whose jobs wait; one of them is enough.
    """
    found = [
        _judged(record, key.kind, instance, each, missing, shelf, tenants)
        for instance, each in abilities(record, key.kind)
        if (missing := missing_of(key.kind, key.requires, each))
    ]
    return min(found, key=lambda each: (ORDER.index(each.state), each.size_bytes), default=None)


def _judged(
    record: WorkerRecord,
    kind: str,
    instance: str,
    capabilities: Mapping[str, Any],
    files: tuple[File, ...],
    shelf: Shelf,
    tenants: Collection[str],
) -> Outlook:
    entries = {
        file: found
        for file in files
        if (found := shelf.find(*file)) is not None and any(map(found.model.is_for, tenants))
    }
    size_bytes = sum(found.model.size_bytes for found in entries.values())

    def said(state: State, message: str, fetch: Fetch | None = None) -> Outlook:
        return Outlook(state, instance, files, size_bytes, message, fetch)

    if unknown := [file for file in files if file not in entries]:
        return said(
            State.NO_ENTRY, f"{paths_text(unknown)} {'is' if len(unknown) == 1 else 'are'} in no catalogue"
        )
    offer = offer_of(kind, capabilities)
    if offer is None:
        return said(State.NO_FETCHES, f"it would need {size_text(size_bytes)} of models, and fetches none")
    for file in files:
        fetch = shelf.fetch(*file)
        if fetch is not None and fetch.worker == record.id and instance in ("", fetch.instance):
            return said(State.FETCHING, f"it is fetching {'/'.join(file)}: {progress_text(fetch)}", fetch)
    if kept := [file for file, entry in entries.items() if _is_kept_from(record, entry)]:
        return said(
            State.KEPT,
            f"it works over REST, and {paths_text(kept)} has credentials, which go there only to tenants "
            "that the catalogue names",
        )
    for file, entry in entries.items():
        if fault := shelf.fault(entry):
            return said(State.FAILED, f"it cannot fetch {'/'.join(file)}: {fault}")
        revision, reason = offer.failed.get("/".join(file), (None, ""))
        if revision == entry.revision:
            return said(State.FAILED, f"it could not fetch {'/'.join(file)}: {reason}")
        if entry.model.vram_mib > offer.vram_mib:
            needs = f"{'/'.join(file)} needs {entry.model.vram_mib} MiB of GPU memory"
            return said(State.VRAM, f"{needs}, and it has {offer.vram_mib}")
    if size_bytes > offer.limit_bytes:
        limit = f"its limit of {size_text(offer.limit_bytes)} for fetched models is too small"
        return said(State.LIMIT, f"{limit} for {size_text(size_bytes)}")
    largest = max(found.model.size_bytes for found in entries.values())
    if largest > offer.room_bytes:
        return said(State.NO_ROOM, f"its disk has no room for {size_text(size_bytes)}")
    return said(State.FETCHABLE, f"it would fit after fetching {size_text(size_bytes)}")


def _is_kept_from(record: WorkerRecord, entry: Found) -> bool:
    """Whether an entry's credentials are not for a worker: over REST it may be anybody's of its tenant."""
    tenant = rest_tenant(record.id)
    return tenant is not None and entry.model.credentials is not None and tenant not in entry.model.tenants


def paths_text(files: Collection[File]) -> str:
    """Some of the files, and how many more there are."""
    shown = ["/".join(file) for file in list(files)[:SHOWN]]
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return ", ".join(shown) + more


def size_text(size_bytes: int) -> str:
    """Bytes as people say them, such as `6.9 GB`."""
    value = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def progress_text(fetch: Fetch) -> str:
    """How far a fetch is, such as `41 %, about 3 min left`."""
    part = f"{100 * fetch.done_bytes // max(1, fetch.size_bytes)} %"
    if fetch.left_s is None:
        return part
    if fetch.left_s < MINUTE_S:
        return f"{part}, less than a minute left"
    return f"{part}, about {round(fetch.left_s / MINUTE_S)} min left"
