"""A worker whose back end is down is said to be just that, wherever it would be counted on."""

from __future__ import annotations

from typing import Any

import pytest

from switchyard.events.lane import LaneKey
from switchyard.events.requirements.matching import canonical
from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.dispatch.reasons.verdicts import Situation, Verdict, verdict_on
from switchyard.services.records.back_ends import down_of
from switchyard.services.records.workers import Instance, WorkerRecord, new_record

DOWN = {"state": "down", "backend": "comfyui-1", "since": "2026-11-29T12:00:00Z", "why": "nobody listens"}
KEY = LaneKey("comfyui", requires=canonical({"comfyui.nodes": {"$has": "Zoom"}}))


def worker(*found: dict[str, Any]) -> WorkerRecord:
    return new_record(
        worker_id=WorkerId("w1"), kinds=("comfyui",), capabilities={"comfyui": found[0]}, slots=2, lease_s=30,
        instances=tuple(
            Instance(f"c{number}", "comfyui", {"comfyui": each}) for number, each in enumerate(found)
        ),
    )  # fmt: skip


def judged(record: WorkerRecord) -> tuple[str, str]:
    verdict = verdict_on(record, Situation(KEY, 0, [record]), "acme")
    return verdict.verdict, verdict.message


def test_one_whose_only_fitting_back_end_is_down_fits_but_does_not_serve() -> None:
    record = worker({"nodes": ["Zoom"]} | DOWN)
    assert judged(record) == (
        Verdict.BACK_END_DOWN,
        "it fits, but its back end comfyui-1 has been down since 2026-11-29T12:00:00Z (nobody listens)",
    )
    assert record.fits(KEY)
    assert not record.serves(KEY)


def test_one_with_another_back_end_that_fits_and_is_up_is_free() -> None:
    record = worker({"nodes": ["Zoom"]} | DOWN, {"nodes": ["Zoom"], "state": "up"})
    assert judged(record)[0] == Verdict.FREE
    assert record.serves(KEY)
    record = worker({"nodes": ["Zoom"]} | DOWN, {"nodes": ["Other"], "state": "up"})
    assert judged(record)[0] == Verdict.BACK_END_DOWN
    assert not record.serves(KEY)


def test_what_a_back_end_that_was_never_up_has_is_not_known() -> None:
    assert judged(worker(DOWN))[1].endswith("and what it has is not known")
    assert judged(worker({"nodes": ["Other"]} | DOWN))[0] == Verdict.DOES_NOT_FIT


@pytest.mark.parametrize("odd", [None, 3, [], {}, {"state": "up"}, {"state": ["down"]}])
def test_anything_may_stand_there(odd: Any) -> None:
    assert down_of("comfyui", {"comfyui": odd}) is None
    assert str(down_of("x", {"x": {"state": "down", "backend": 7, "since": "\n"}})) == (
        "back end x has been down"
    )
