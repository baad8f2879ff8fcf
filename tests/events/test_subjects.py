"""Every subject as it is spelled, and read back where it is read: what is stored stands under these names."""

from __future__ import annotations

from typing import Any

import pytest

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId

JOB = "01940000-0000-7000-8000-000000000001"
CHILD = "01940000-0000-7000-8000-000000000002"

SPELLED = {
    subjects.ledger: ((8192,), "ledger.line.2"),
    subjects.job_filter: ((JOB,), f"job.{JOB}.>"),
    subjects.job_event: ((JOB, "leased"), f"job.{JOB}.leased"),
    subjects.claimable_event: ((JOB, "queued", "ocr-1", 50), f"job.{JOB}.queued.ocr-1.50"),
    subjects.work: (("ocr-1", 50), "work.ocr-1.50"),
    subjects.lane_consumer: (("ocr_p1", 50), "ocr_p1_p50"),
    subjects.work_of: (("ocr_p1_p50",), "work.ocr_p1.50"),
    subjects.offer: (("vm-1", 50), "offer.vm-1.50"),
    subjects.offers_to: (("vm-1",), "offer.vm-1.*"),
    subjects.owner_of: (("$KV.octopoid.acme.tasks.ab",), "acme.tasks"),
    subjects.quarantined: (("JOBS", 7), "quarantine.JOBS.7"),
    subjects.all_quarantined: (("JOBS",), "quarantine.JOBS.*"),
    subjects.progress: ((JOB,), f"progress.{JOB}"),
    subjects.preview: ((JOB,), f"preview.{JOB}"),
    subjects.log: ((JOB,), f"log.{JOB}"),
    subjects.timer: ((JOB, "wake"), f"timer.set.{JOB}.wake"),
    subjects.timer_due: ((JOB, "wake"), f"timer.due.{JOB}.wake"),
    subjects.job_timers: ((JOB,), f"timer.set.{JOB}.>"),
    subjects.schedule_timer: (("acme", "nightly"), "timer.set.schedule.acme.nightly"),
    subjects.schedule_timer_due: (("acme", "nightly"), "timer.due.schedule.acme.nightly"),
    subjects.projected: (("db",), "projected.db"),
    subjects.rebuild: (("p1",), "rebuild.p1"),
    subjects.file_quota: (("acme",), "quota.files.acme"),
    subjects.file_addresses: (("acme",), "address.files.acme"),
    subjects.token: (("run", "acme.api", 3), "token.run.acme.api.3"),
    subjects.token_consumer: (("run", "acme.api"), "run_4_acme_api"),
    subjects.file_name: (("acme", "f"), "acme/f"),
    subjects.file_meta: (("acme", "f"), "$O.files.M.YWNtZS9m"),
    subjects.file_chunks: (("nuid",), "$O.files.C.nuid"),
}


@pytest.mark.parametrize("function", SPELLED, ids=lambda function: function.__name__)
def test_a_subject_is_spelled_as_it_is_stored(function: Any) -> None:
    arguments, spelled = SPELLED[function]
    assert function(*arguments) == spelled


def test_a_subject_is_read_back_as_it_was_written() -> None:
    assert subjects.all_quarantined() == subjects.ALL_QUARANTINED.replace(">", "*.*")
    assert subjects.job_of(subjects.job_event(JobId(JOB), "leased")) == JOB
    assert subjects.parse_quarantined("quarantine.JOBS.7") == ("JOBS", 7)
    assert subjects.parse_file_name(subjects.file_name("acme", "f")) == ("acme", "f")
    assert subjects.parse_schedule_due(subjects.schedule_timer_due("acme", "n")) == ("acme", "n")
    assert subjects.parse_schedule_due(subjects.timer_due(JobId(JOB), "wake")) is None
    assert subjects.parse_timer_due(subjects.timer_due(JobId(JOB), "wake")) == (JOB, "wake")
    assert subjects.is_start_token(subjects.token("start", "acme.api", "t"))
    assert not subjects.is_start_token(subjects.token("run", "acme.api", 3))


@pytest.mark.parametrize("subject", ["job", f"job.{JOB}", "job.no-id.leased", f"job.{JOB}.leased\x7f"])
def test_what_a_stranger_puts_into_the_log_is_no_job_s(subject: str) -> None:
    assert subjects.job_of(subject) is None


@pytest.mark.parametrize(
    ("parse", "subject"),
    [
        (subjects.parse_schedule_due, "timer.due.schedule.*.nightly"),
        (subjects.parse_timer_due, "timer.due.no-id.wake"),
        (subjects.parse_timer_due, f"timer.due.{JOB}.No name"),
    ],
)
def test_a_subject_that_names_nothing_of_ours_is_refused(parse: Any, subject: str) -> None:
    with pytest.raises(ValueError, match=r"expected|not that of a job"):
        parse(subject)


def test_a_name_may_stand_in_a_subject_and_in_a_header() -> None:
    assert all(map(subjects.is_name, ("ocr", "0-a_b", "a" * 63)))
    assert not any(map(subjects.is_name, ("a" * 64, "", "A", "a.b", "-a")))


def test_every_function_that_spells_a_subject_is_in_the_table() -> None:
    public = {
        value for name, value in vars(subjects).items()
        if callable(value) and not name.startswith(("_", "parse_", "is_"))
        and getattr(value, "__module__", "") == subjects.__name__
    }  # fmt: skip
    assert public - {subjects.job_of} == set(SPELLED)
