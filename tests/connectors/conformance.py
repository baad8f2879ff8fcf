"""What every connector must do, whatever its back end and distribution; each kind brings a `Subject`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import psutil
import pytest

from switchyard._worker.contained import Foreign
from switchyard._worker.context import MEDIA_TYPE
from switchyard.events.subjects import is_name
from switchyard.services.connectors.protocol import Connector, ConnectorError, FatalError, Outcome
from switchyard.services.connectors.registry import payload_model
from tests.connectors.attempts import LocalAttempt

DEADLINE_S = 60
MANY = 3
REPORTED = -1


@dataclass(frozen=True)
class Subject:
    """How to bring one connector into the situations that the suite needs."""

    make: Callable[[], Connector]
    work: Callable[[Path], LocalAttempt]
    """An attempt that succeeds."""
    long_work: Callable[[Path], LocalAttempt]
    """An attempt that runs for long after the first report it awaits."""
    bad_payloads: tuple[dict[str, Any], ...]
    failures: tuple[tuple[dict[str, Any], type[ConnectorError], str], ...] = ()
    """Payloads of attempts that fail, with the error that they come to and its code."""


def children() -> list[psutil.Process]:
    """All processes below this one that run."""
    return [
        child
        for child in psutil.Process().children(recursive=True)
        if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
    ]


async def no_more_than(before: list[psutil.Process]) -> None:
    """Wait until no process is left that was not there before."""
    async with asyncio.timeout(DEADLINE_S):
        while set(children()) - set(before):
            await asyncio.sleep(0.01)


async def turned(turns: int, attempt: LocalAttempt) -> None:
    """Wait for so many turns of the loop, or for the report that is awaited."""
    if turns == REPORTED:
        await attempt.reported.wait()
    for _ in range(turns):
        await asyncio.sleep(0)


class ConnectorConformance:
    """The suite; a test class of each kind inherits it and provides the fixture `subject`."""

    kind_is_known = True
    """Whether gateways know the kind's payloads; those of other distributions and handlers they do not."""

    async def run(self, subject: Subject, attempt: LocalAttempt) -> Outcome:
        connector = subject.make()
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await connector.run(attempt)
        finally:
            await connector.close()

    async def test_kind_and_payload_model_are_those_of_the_registry(self, subject: Subject) -> None:
        connector = subject.make()
        assert payload_model(connector.kind) is (connector.payload_model if self.kind_is_known else None)
        await connector.close()

    async def test_an_instance_says_what_it_is(self, subject: Subject) -> None:
        connector = subject.make()
        assert is_name(connector.id)
        assert is_name(connector.kind)
        assert connector.slots is None or connector.slots > 0
        assert (connector.id, connector.kind, connector.slots) == (
            connector.id, connector.kind, connector.slots,
        )  # fmt: skip
        connector.watch(lambda: None)
        await connector.close()

    async def test_two_instances_do_not_disturb_each_other(self, subject: Subject, tmp_path: Path) -> None:
        """One is closed in the middle of the other's work, which goes on until it is stopped."""
        one, two = subject.make(), subject.make()
        attempt = subject.long_work(tmp_path)
        task = asyncio.create_task(one.run(attempt))
        async with asyncio.timeout(DEADLINE_S):
            await attempt.reported.wait()
            (tmp_path / "two").mkdir()
            await two.run(subject.work(tmp_path / "two"))
            await two.close()
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await one.close()

    async def test_capabilities_change_only_by_what_is_watched(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        """Whoever watches hears of every change, on the loop."""
        connector = subject.make()
        heard: list[asyncio.AbstractEventLoop] = []
        connector.watch(lambda: heard.append(asyncio.get_running_loop()))
        before = connector.capabilities()
        await connector.run(subject.work(tmp_path))
        assert heard or connector.capabilities() == before
        assert set(heard) <= {asyncio.get_running_loop()}
        await connector.close()

    async def test_what_is_saved_is_named_in_the_outcome(self, subject: Subject, tmp_path: Path) -> None:
        attempt = subject.work(tmp_path)
        outcome = await self.run(subject, attempt)
        assert [artifact["name"] for artifact in outcome.artifacts] == list(attempt.saved)

    async def test_a_report_that_is_refused_by_whatever_exception_holds_nothing_up(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        before = children()

        class Refusal(BaseException):
            pass

        def refuse(*_: Any, **__: Any) -> None:
            raise Refusal

        attempt = subject.work(tmp_path)
        attempt.progress = refuse  # type: ignore[method-assign]
        with contextlib.suppress(Refusal, ConnectorError):
            await self.run(subject, attempt)
        await no_more_than(before)

    async def test_close_can_be_called_again_and_before_any_attempt(self, subject: Subject) -> None:
        connector = subject.make()
        await connector.close()
        await connector.close()

    async def test_capabilities_are_json(self, subject: Subject) -> None:
        connector = subject.make()
        capabilities = connector.capabilities()
        assert orjson.loads(orjson.dumps(capabilities)) == capabilities
        await connector.close()

    async def test_outcome_is_json_and_usage_is_numbers(self, subject: Subject, tmp_path: Path) -> None:
        outcome = await self.run(subject, subject.work(tmp_path))
        assert orjson.loads(orjson.dumps(outcome.result)) == outcome.result
        assert orjson.loads(orjson.dumps(outcome.artifacts)) == list(outcome.artifacts)
        assert all(isinstance(amount, int | float) for amount in outcome.usage.values())

    async def test_progress_is_monotone_from_0_to_1(self, subject: Subject, tmp_path: Path) -> None:
        attempt = subject.work(tmp_path)
        await self.run(subject, attempt)
        fractions = [report["fraction"] for report in attempt.reports]
        assert fractions
        assert fractions == sorted(fractions)
        assert fractions[0] >= 0
        assert fractions[-1] == 1

    async def test_one_connector_runs_attempts_one_after_another(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        connector = subject.make()
        results = []
        for name in ("first", "second"):
            (tmp_path / name).mkdir()
            results.append((await connector.run(subject.work(tmp_path / name))).result)
        await connector.close()
        assert results[0] == results[1]

    async def test_cancellation_stops_the_work(self, subject: Subject, tmp_path: Path) -> None:
        connector = subject.make()
        before = children()
        attempt = subject.long_work(tmp_path)
        task = asyncio.create_task(connector.run(attempt))
        async with asyncio.timeout(DEADLINE_S):
            await attempt.reported.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await no_more_than(before)
        reported = len(attempt.reports)
        (tmp_path / "again").mkdir()
        await connector.run(subject.work(tmp_path / "again"))
        assert len(attempt.reports) == reported
        await connector.close()

    async def test_a_timeout_ends_the_work_wherever_it_is_and_costs_the_connector_nothing(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        """A worker asks twice, at a third of the way and again; what has not stopped then holds its slot."""
        connector = subject.make()
        before = children()
        for number, turns in enumerate((0, 1, 5, REPORTED)):
            (directory := tmp_path / str(number)).mkdir()
            attempt = subject.long_work(directory)
            work = Foreign(partial(connector.run, attempt))
            async with asyncio.timeout(DEADLINE_S):
                await turned(turns, attempt)
                assert await work.stop(DEADLINE_S / 2, first_s=DEADLINE_S / 4), turns
            assert isinstance(work.error, asyncio.CancelledError), turns
            await no_more_than(before)
        (tmp_path / "after").mkdir()
        await connector.run(subject.work(tmp_path / "after"))
        await connector.close()
        await no_more_than(before)

    async def test_a_drained_worker_stops_all_attempts_at_once_and_closes(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        """Those that an instance has at once, as many as it says; one that has ended keeps its outcome."""
        connector = subject.make()
        before = children()
        (tmp_path / "ended").mkdir()
        ended = asyncio.create_task(connector.run(subject.work(tmp_path / "ended")))
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.wait([ended])
        running = []
        for number in range(min(connector.slots or MANY, MANY)):
            (directory := tmp_path / str(number)).mkdir()
            attempt = subject.long_work(directory)
            running.append((attempt, asyncio.create_task(connector.run(attempt))))
        async with asyncio.timeout(DEADLINE_S):
            await running[0][0].reported.wait()
            for _, task in running:
                task.cancel()
            done = await asyncio.gather(*(task for _, task in running), return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in done), done
            await connector.close()
        assert orjson.loads(orjson.dumps(ended.result().result)) == ended.result().result
        await no_more_than(before)
        reported = [len(attempt.reports) for attempt, _ in running]
        await asyncio.gather(*(turned(20, attempt) for attempt, _ in running))
        assert [len(attempt.reports) for attempt, _ in running] == reported

    async def test_a_worker_that_ends_closes_a_connector_whose_work_goes_on(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        """Nothing of it holds the end up, and nothing of it outlives that."""
        connector = subject.make()
        before = children()
        attempt = subject.long_work(tmp_path)
        task = asyncio.create_task(connector.run(attempt))
        async with asyncio.timeout(DEADLINE_S):
            await attempt.reported.wait()
            await connector.close()
            task.cancel()
            with contextlib.suppress(ConnectorError, asyncio.CancelledError):
                await task
        await no_more_than(before)

    async def test_bad_payload_is_fatal_and_says_what_is_wrong(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        for payload in subject.bad_payloads:
            with pytest.raises(FatalError) as raised:
                await self.run(subject, LocalAttempt(tmp_path, payload=payload))
            assert raised.value.code in ("invalid_payload", "file_not_found")
            assert raised.value.message

    async def test_failures_are_retryable_or_fatal_and_cost_the_connector_nothing(
        self, subject: Subject, tmp_path: Path
    ) -> None:
        connector = subject.make()
        before = children()
        for payload, error, code in subject.failures:
            async with asyncio.timeout(DEADLINE_S):
                with pytest.raises(error) as raised:
                    await connector.run(LocalAttempt(tmp_path, payload=payload))
            assert raised.value.code == code
        (tmp_path / "after").mkdir()
        await connector.run(subject.work(tmp_path / "after"))
        await connector.close()
        await no_more_than(before)

    async def test_previews_are_bytes_with_a_media_type(self, subject: Subject, tmp_path: Path) -> None:
        attempt = subject.work(tmp_path)
        await self.run(subject, attempt)
        for data, media_type in attempt.previews:
            assert type(data) is bytes
            assert MEDIA_TYPE.fullmatch(media_type)

    async def test_close_leaves_no_process(self, subject: Subject, tmp_path: Path) -> None:
        before = children()
        await self.run(subject, subject.work(tmp_path))
        await no_more_than(before)
