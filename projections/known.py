"""The jobs that whoever folds the log remembers: bounded in number and in memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import Final

from switchyard.events.job import Job

LIGHT_BYTES: Final = 1024
"""JSON that is no longer is not weighed: the bound on the number of jobs is one on theirs."""
MOST_BYTES: Final = 256 * 1024 * 1024
PAGE_BYTES: Final = 64 * 1024 * 1024
"""What the jobs of a page may weigh."""
_OBJECT_BYTES: Final = 64
_DICT_BYTES: Final = 184


def weight(body: bytes) -> int:
    """About the bytes of memory that the objects of some JSON take, where that is much; else 0.

    What stands between brackets of a result may be small and many: `[[],[],…]` takes 22 times its length.
    Source: `sys.getsizeof` of CPython 3.11 for an empty list and a small dictionary.
    """
    if len(body) <= LIGHT_BYTES:
        return 0
    objects = body.count(b",") + body.count(b"[")
    return len(body) + _OBJECT_BYTES * objects + _DICT_BYTES * body.count(b"{")


def fitting(rows: Iterable[tuple[int, bytes]], most_bytes: int = PAGE_BYTES) -> Iterator[tuple[int, bytes]]:
    """The first of some rows, each a place and JSON, that weigh no more together; at least one."""
    weighs = 0
    for number, (place, doc) in enumerate(rows):
        weighs += weight(doc)
        if number and weighs > most_bytes:
            return
        yield place, doc


class KnownJobs:
    """Jobs by id, the ones that were needed last.

    Args:
        most: how many; more than the batches not yet written hold, so that none is read back stale.
        most_bytes: what they may weigh together; those of batches not yet written stay all the same.
        behind: batches that may not be written yet, with the one that is folded.
    """

    def __init__(self, *, most: int, most_bytes: int = MOST_BYTES, behind: int = 4) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._weights: OrderedDict[str, int] = OrderedDict()
        """The weights of those that have one, in the order in which they were needed."""
        self._unwritten: deque[AbstractSet[str]] = deque(maxlen=behind)
        self.weight = 0

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def get(self, job_id: str) -> Job | None:
        """A job that is remembered."""
        return self._jobs.get(job_id)

    def begin(self, jobs: AbstractSet[str]) -> None:
        """Keep these until as many batches have begun as may not be written yet."""
        self._unwritten.append(jobs)

    def put(self, job: Job, body: bytes) -> None:
        """Remember a job, and that this is what came to it, or the whole of it."""
        self._jobs[job.id] = job
        self._jobs.move_to_end(job.id)
        if len(body) > LIGHT_BYTES or job.id in self._weights:
            self._weigh(job.id, weight(body))

    def replace(self, job: Job, body: bytes) -> None:
        """Remember a job in the place of what it was."""
        self._lighten(job.id)
        self.put(job, body)

    def _weigh(self, job_id: str, more: int) -> None:
        self.weight += more
        self._weights[job_id] = self._weights.get(job_id, 0) + more
        self._weights.move_to_end(job_id)

    def _lighten(self, job_id: str) -> None:
        self.weight -= self._weights.pop(job_id, 0)

    def trim(self) -> list[str]:
        """Forget the jobs that were needed longest ago; which those are."""
        forgotten = []
        while len(self._jobs) > self._most:
            job_id = next(iter(self._jobs))
            self._forget(job_id)
            forgotten.append(job_id)
        if self.weight > self._most_bytes:
            for job_id in list(self._weights):
                if any(job_id in jobs for jobs in self._unwritten):
                    continue
                self._forget(job_id)
                forgotten.append(job_id)
                if self.weight <= self._most_bytes:
                    break
        return forgotten

    def _forget(self, job_id: str) -> None:
        del self._jobs[job_id]
        self._lighten(job_id)
