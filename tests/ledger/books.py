"""What stands in the ledger, read line by line, and what the log says should stand there."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict

from switchyard.events import subjects
from switchyard.events.encoding.envelope import recorded
from switchyard.events.errors import UnavailableError
from switchyard.events.ledger.line import Line, lines_of
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.ledger.lines import Entry, lines
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import read_range
from switchyard.services.ledger.histories import taken_in_at
from tests.site import DEADLINE_S, Site

TIMEOUT_S = 5.0


async def in_ledger(site: Site) -> list[Line]:
    """All lines, as they stand."""
    found: list[Line] = []
    start = 1
    while page := await read_range(
        site.nc, subjects.LEDGER, subjects.ALL_LINES, start=start, timeout_s=TIMEOUT_S
    ):
        found += [line for message in page for line in lines_of(message.data)]
        start = page[-1].seq + 1
    return found


async def of_log(site: Site) -> list[Line]:
    """The lines that the whole log comes to."""
    histories: defaultdict[JobId, list[Entry]] = defaultdict(list)
    start = 1
    while page := await read_range(
        site.nc, subjects.JOBS, subjects.ALL_JOBS, start=start, timeout_s=TIMEOUT_S
    ):
        for message in page:
            entry = recorded(message.subject, message.headers, message.data, message.seq)
            histories[entry.job_id].append((entry, taken_in_at(message)))
        start = page[-1].seq + 1
    return [line for job_id, history in histories.items() for line in lines(job_id, history)]


async def settled(site: Site, count: int, *, idle: bool = True) -> list[Line]:
    """The ledger, once so many lines are there and, with `idle`, its consumer has nothing left."""
    call = f"CONSUMER.INFO.{subjects.JOBS}.{subjects.KEEPER_LEDGER}"
    async with asyncio.timeout(5 * DEADLINE_S):
        while True:
            with contextlib.suppress(UnavailableError):  # the broker was killed just then
                info = await api(site.nc, call, timeout_s=TIMEOUT_S)
                found = await in_ledger(site)
                left = info["num_pending"] + info["num_ack_pending"]
                if len(found) >= count and not (idle and left):
                    return found
            await asyncio.sleep(0.02)


def totals(found: list[Line]) -> Counter[tuple[str, str, str]]:
    """Millionths by tenant, outcome and unit."""
    sums: Counter[tuple[str, str, str]] = Counter()
    for line in found:
        for unit, amount in line.units.items():
            sums[line.tenant, line.outcome, unit] += amount
    return sums
