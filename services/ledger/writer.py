"""From the log to the ledger: what a keeper does for every event that may have ended an attempt.

The event is acknowledged once its line is written; whatever breaks off in between is done once more when the
event comes again, and the ledger takes no line twice. A history that is to be purged is written first.
"""

from __future__ import annotations

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.encoding.codec import decode
from switchyard.events.encoding.envelope import recorded
from switchyard.events.errors import NewerVersionError, UnavailableError
from switchyard.events.events import Archived, Unreadable
from switchyard.events.job import Job
from switchyard.events.ledger.line import Line
from switchyard.events.vocabulary.ids import JobId
from switchyard.projections.fold import NO_JOB
from switchyard.projections.ledger.lines import erased_line, lines
from switchyard.services.broker.consume import UnreadableError
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import Stored
from switchyard.services.ledger.book import Book
from switchyard.services.ledger.histories import Histories
from switchyard.services.ledger.together import Together
from switchyard.services.settings import Settings


class LedgerWriter:
    """Writes the lines of jobs.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        settings: limits and timeouts.
    """

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self._histories = Histories(nc, settings)
        self._book = Book(nc, publisher, timeout_s=settings.request_timeout_s)
        self._commits = Together(self._book.write)

    async def on_event(self, message: Stored) -> None:
        """Write the line of an event that ended an attempt; another has none.

        Raises:
            NewerVersionError: a newer version of the program wrote it; it waits until this one is upgraded.
            UnreadableError: it is no event of a job, or cannot be read.
            UnavailableError: the broker does not answer, or has no room.
        """
        job_id = subjects.job_of(message.subject)
        if job_id is None:
            raise UnreadableError(NO_JOB)
        event = decode(message.subject, message.data, message.headers)
        if isinstance(event, Unreadable):
            if event.newer:
                raise NewerVersionError(f"event {message.seq}: {event.reason}")
            raise UnreadableError(event.reason)
        history = await self._histories.of(job_id)
        if not any(entry.seq == message.seq for entry, _ in history):
            if history and isinstance(history[-1][0].event, Archived):
                return  # purged since: whoever did it has written the lines before
            raise UnavailableError(f"job {job_id}: event {message.seq} cannot be read yet")
        known = [entry for entry in history if entry[0].seq <= message.seq]
        await self._commit([line for line in lines(job_id, known) if line.seq == message.seq])

    async def settle(self, job_id: JobId) -> None:
        """Write all lines of a job that are missing.

        Raises:
            NewerVersionError: a newer version of the program wrote one of its events.
            UnavailableError: the broker does not answer, or has no room.
        """
        await self._commit(list(lines(job_id, await self._histories.of(job_id))))

    async def erased(self, job: Job, message: Stored) -> None:
        """Write the line of a job that was erased, given the event that archived it.

        Raises:
            UnavailableError: the broker does not answer, or has no room.
        """
        entry = recorded(message.subject, message.headers, message.data, message.seq)
        await self._commit([erased_line(job, entry)])

    async def _commit(self, found: list[Line]) -> None:
        """Write lines together with those that others bring meanwhile.

        Raises:
            UnavailableError: they are not all written.
        """
        if not found:
            return
        await self._commits.ask(found)
