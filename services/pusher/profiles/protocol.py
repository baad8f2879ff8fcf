"""What distinguishes one profile of prediction servers from another, as pushers see it.

A profile holds nothing of a single task: all that it needs comes with each call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import aiohttp

from switchyard.events.vocabulary.ids import Fence, JobId
from switchyard.services.dispatch.push.forms import options_of
from switchyard.services.dispatch.push.report import Report
from switchyard.services.pusher.calling import Answer, Reading
from switchyard.services.pusher.checking import BODY_BYTES
from switchyard.services.pusher.profiles.inputs import InputFiles
from switchyard.services.records.servers.condition import Outcome
from switchyard.services.records.servers.record import Server


class Ref(NamedTuple):
    """An attempt at a server, as any pusher knows it.

    Args:
        server: as it is registered now.
        job: the job.
        fence: that of the attempt.
        remote_id: what the server calls it; "" where that is not known.
        kind: the job's; "" where that is not known.
    """

    server: Server
    job: JobId
    fence: Fence
    remote_id: str = ""
    kind: str = ""

    @property
    def options(self) -> Any:
        """The server's options, in the form of its profile.

        Raises:
            InvalidError: an older or newer gateway took them, and they are none here.
        """
        return options_of(self.server.profile, self.server.options)


class Task(NamedTuple):
    """What is pushed.

    Args:
        ref: the attempt.
        payload: the job's, with results in the place of references.
        callback_url: where the server may report on this attempt.
        timeout_s: seconds that the attempt has.
        files: the input files of the job's tenant.
    """

    ref: Ref
    payload: dict[str, Any]
    callback_url: str
    timeout_s: float
    files: InputFiles


class Asked(NamedTuple):
    """A request.

    Args:
        url: where.
        body: what is sent.
        method: how.
        headers: beside the server's credentials, `X-Request-Id`, `traceparent` and the body's type.
        type: that of the body.
        total_s: within which the answer has to have come whole; None for what the attempt has, or for 5
            seconds where a task is cancelled or asked after.
    """

    url: str
    body: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = {}
    type: str = "application/json"
    total_s: float | None = None


class Profile(ABC):
    """One way to speak to prediction servers.

    Attributes:
        health_bytes: the most that the answer to a health check may have.
    """

    health_bytes = BODY_BYTES

    @abstractmethod
    async def request(self, task: Task, /) -> Asked:
        """What is sent to begin an attempt.

        Raises:
            FatalError: the job cannot be sent to any server; it is dead with that code.
            UnavailableError: the broker does not answer; the job goes back uncounted.
        """

    @abstractmethod
    async def judged(self, task: Task, answer: aiohttp.ClientResponse, reading: Reading, /) -> Answer:
        """Read an answer whose headers have come, whole or as a stream, and judge it.

        What the client raises goes through: the server may have taken the task then.
        """

    def ticket(self, ref: Ref, /) -> str:
        """How callbacks are to be read, as their ticket says: the profile, maybe with more after a dot."""
        return ref.server.profile

    def calls_back(self, _ref: Ref, /) -> bool:
        """Whether a server may call back on a task of which it has not answered."""
        return True

    def health(self, _raw: bytes, /) -> Outcome:
        """What a health check's answer with a status of 2xx says: PASSED, or why not."""
        return Outcome.PASSED

    def found(self, _raw: bytes, /) -> dict[str, Any]:
        """Capabilities that the answer of a health check names that passed."""
        return {}

    def cancels(self, _ref: Ref, /) -> Asked | None:
        """What asks a server to stop an attempt; None where it cannot be asked."""
        return None

    def polls(self, _ref: Ref, /) -> float | None:
        """Seconds between two questions after an attempt that is left to the server; None for none."""
        return None

    def poll(self, _ref: Ref, /) -> Asked:
        """That question, where `polls` is not None."""
        raise NotImplementedError

    async def polled(self, _ref: Ref, _answer: aiohttp.ClientResponse, _reading: Reading, /) -> Report | None:
        """What its answer says; None where the server knows nothing of the attempt, which is lost then.

        An answer that says nothing, such as a 503, is `Running()`.
        """
        raise NotImplementedError
