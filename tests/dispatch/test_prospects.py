"""What a worker would have to fetch for a job, and whether it may."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from switchyard.events.lane import LaneKey
from switchyard.events.requirements.matching import canonical
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.dispatch.models.lacking import Lacking
from switchyard.services.dispatch.models.prospects import (
    Outlook,
    Shelf,
    State,
    missing_of,
    outlook,
    size_text,
)
from switchyard.services.records.models.record import Fetch, Model
from switchyard.services.records.models.store import Found
from switchyard.services.records.servers.record import Sealed
from switchyard.services.records.workers import Instance, WorkerRecord, new_record

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def key(*names: str, **more: Any) -> LaneKey:
    wanted = {"comfyui.models.loras": {"$all": list(names)}} | more
    return LaneKey("comfyui", requires=canonical(wanted, field="requires"))


def record(*names: str, fetch: Any = None, instances: tuple[Instance, ...] = ()) -> WorkerRecord:
    found: dict[str, Any] = {"models": {"loras": list(names)}, "vram_mib": 8_000}
    if fetch is not None:
        found["fetch"] = fetch
    return new_record(
        worker_id=WorkerId("w1"), kinds=("comfyui",), capabilities={"comfyui": found}, slots=1, lease_s=30.0,
        instances=instances,
    )  # fmt: skip


OFFER = {"limit_bytes": 10_000, "room_bytes": 10_000}


def shelf(fetch: Fetch | None = None, **fields: Any) -> Shelf:
    """A catalogue that has all that begins with `k`."""

    def find(folder: str, name: str) -> Found | None:
        values: dict[str, Any] = {
            "folder": folder, "name": name, "url": "http://h/", "sha256": "0" * 64, "size_bytes": 6_900,
            "created_at": NOW, "created_by": "ann", "updated_at": NOW,
        } | fields  # fmt: skip
        return Found(Model(**values), 3) if name.startswith("k") else None

    return Shelf(find, lambda _folder, name: fetch if fetch is not None and fetch.name == name else None)


def seen(one: WorkerRecord, wanted: LaneKey, known: Shelf, tenant: str = "acme") -> Outlook:
    found = outlook(one, wanted, known, (tenant,))
    assert found is not None
    return found


def test_what_would_fit_after_a_fetch() -> None:
    near = seen(record("a", fetch=OFFER), key("a", "k1"), shelf())
    assert (near.state, near.files, near.size_bytes) == (State.FETCHABLE, (("loras", "k1"),), 6_900)
    assert near.message == "it would fit after fetching 6.9 kB"


@pytest.mark.parametrize(
    ("offer", "known", "wanted", "state"),
    [
        (OFFER, shelf(), key("x"), State.NO_ENTRY),
        (OFFER, shelf(tenants=("other",)), key("k1"), State.NO_ENTRY),
        (None, shelf(), key("k1"), State.NO_FETCHES),
        ("odd", shelf(), key("k1"), State.NO_FETCHES),
        ({"limit_bytes": True, "room_bytes": -1}, shelf(), key("k1"), State.NO_FETCHES),
        (OFFER, shelf(), key("k1", "k2"), State.LIMIT),
        ({**OFFER, "room_bytes": 10}, shelf(), key("k1"), State.NO_ROOM),
        (OFFER, shelf(vram_mib=9_000), key("k1"), State.VRAM),
        ({**OFFER, "failed": [{"model": "loras/k1", "revision": 3}]}, shelf(), key("k1"), State.FAILED),
        ({**OFFER, "failed": [{"model": "loras/k1", "revision": 2}]}, shelf(), key("k1"), State.FETCHABLE),
        ({**OFFER, "failed": [1, {}, {"model": 1}]}, shelf(), key("k1"), State.FETCHABLE),
    ],
)
def test_why_it_is_not_fetched(offer: Any, known: Shelf, wanted: LaneKey, state: State) -> None:
    assert seen(record(fetch=offer), wanted, known).state is state


def test_whoever_lacks_more_than_files_is_helped_by_no_fetch() -> None:
    assert outlook(record(fetch=OFFER), key("k1", gpu={"$eq": 1}), shelf(), ("acme",)) is None
    assert outlook(record("k1", fetch=OFFER), key("k1"), shelf(), ("acme",)) is None
    nodes = key("k1", **{"comfyui.nodes": {"$has": "Zoom"}})
    assert outlook(record(fetch=OFFER), nodes, shelf(), ("acme",)) is None
    either = {"$or": [{"comfyui.models.loras": {"$has": "k1"}}, {"gpu": 1}]}
    assert missing_of("comfyui", canonical(either, field="requires"), {}) is None
    none = {"$not": {"comfyui.models.loras": {"$has": "k1"}}}
    found = {"comfyui": {"models": {"loras": ["k1"]}}}
    assert missing_of("comfyui", canonical(none, field="requires"), found) is None
    assert missing_of("simulate", key("k1").requires, {}) is None


def test_how_far_it_is() -> None:
    fetch = Fetch(
        folder="loras", name="k1", claim="c", worker="w1", instance="i", revision=3, size_bytes=6_900,
        began_at=NOW, done_bytes=2_829, left_s=180.0,
    )  # fmt: skip
    near = seen(record(fetch=OFFER), key("k1"), shelf(fetch))
    assert (near.state, near.fetch) == (State.FETCHING, fetch)
    assert near.message == "it is fetching loras/k1: 41 %, about 3 min left"


def test_of_several_connectors_the_nearest_counts() -> None:
    able = Instance("b", "comfyui", {"comfyui": {"models": {}, "fetch": OFFER}})
    not_able = Instance("a", "comfyui", {"comfyui": {"models": {}}})
    near = seen(record(instances=(not_able, able)), key("k1"), shelf())
    assert (near.state, near.instance) == (State.FETCHABLE, "b")


def test_what_a_worker_was_seen_to_lack_is_remembered_and_bounded() -> None:
    lacking = Lacking()
    for number in range(2_000):
        lacking.note(record(fetch=OFFER), key(f"k{number}"), "acme")
    lacking.note(record(), key("k"), "acme")
    lacking.note(record(fetch=OFFER), key("k", gpu={"$eq": 1}), "acme")
    found = lacking.of("w1")
    assert len(found) == 50
    assert found[-1].files == [("loras", "k1999")]
    assert lacking.of("w2") == []


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (6_938_078_334, "6.9 GB"),
        (149_000_000_000, "149 GB"),
        (2 * 10**12, "2.0 TB"),
    ],
)
def test_sizes_are_said_in_short(size: int, text: str) -> None:
    assert size_text(size) == text


def test_credentials_go_over_rest_only_to_tenants_that_the_entry_names() -> None:
    sealed = Sealed(key="k", data=b"x", headers=("Authorization",))
    over_rest = msgspec.structs.replace(record(fetch=OFFER), id=WorkerId("rest.acme.w1"))
    kept = seen(over_rest, key("k1"), shelf(credentials=sealed))
    assert kept.state is State.KEPT
    assert not kept.is_near
    assert seen(over_rest, key("k1"), shelf(credentials=sealed, tenants=("acme",))).is_near
    assert seen(over_rest, key("k1"), shelf()).is_near
    assert seen(record(fetch=OFFER), key("k1"), shelf(credentials=sealed)).is_near
