"""Pausing and resuming workers, lanes and kinds, and draining workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    VersionConflictError,
)
from switchyard.projections.reader import ReadModel
from switchyard.services import clock
from switchyard.services.access.principal import ANYBODY, Caller
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.publisher import Publisher
from switchyard.services.connectors.registry import CONNECTORS
from switchyard.services.records import controls
from switchyard.services.records.controls import Control, What, Wish
from switchyard.services.records.lane_entries import LANES
from switchyard.services.records.tenancy import is_seen
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workers import WorkerRecord, rest_tenant
from switchyard.services.settings import Settings

WISHES: Final[dict[str, Wish | None]] = {"pause": "paused", "resume": None, "drain": "draining"}
SHOWN_CHARS: Final = 80


class Wished(NamedTuple):
    """What is wished for a thing; None stands for nothing in particular."""

    what: str
    name: str
    control: Control | None


class Controls:
    """Takes what operators wish.

    Args:
        nc: an open connection.
        publisher: started, on the same connection.
        read_model: that of this host.
        watch: the live workers.
        settings: timeouts.
    """

    def __init__(
        self, nc: Client, publisher: Publisher, read_model: ReadModel, watch: WorkerWatch, settings: Settings
    ) -> None:
        self._nc = nc
        self._publisher = publisher
        self._read_model = read_model
        self._watch = watch
        self._settings = settings

    async def all(self, caller: Caller) -> list[Wished]:
        """What is paused or asked to drain, and concerns the caller."""
        found = await controls.all_controls(self._nc, timeout_s=self._settings.request_timeout_s)
        concerns = self._concern(caller)
        return [
            Wished(what, name, control)
            for (what, name), control in sorted(found.items())
            if concerns(what, name)
        ]

    def _concern(self, caller: Caller) -> Callable[[str, str], bool]:
        """Whether something of a name concerns the caller: kinds and workers may be another tenant's."""
        if caller.sees(ANYBODY):
            return lambda _what, _name: True
        kinds = {kind for kind, _ in self._read_model.counts(tenant=caller.tenant)} | set(CONNECTORS)
        lanes = {queue["lane"] for queue in self._read_model.queues(tenant=caller.tenant)}

        def concerns(what: str, name: str) -> bool:
            if what != "worker":
                return name in (kinds if what == "kind" else lanes)
            record = self._watch.get(name)
            return caller.sees(rest_tenant(name)) if record is None else is_seen(record, caller.sees)

        return concerns

    async def worker(self, caller: Caller, record: WorkerRecord, verb: str) -> Wished:
        """Pause, resume or drain a worker.

        Raises:
            ConflictError: code `draining`; it drains, which cannot be undone.
            UnavailableError: the broker does not answer, or others were always faster.
        """
        control = _control(WISHES[verb], caller.actor)
        timeout_s = self._settings.request_timeout_s
        for _ in range(self._settings.append_tries):
            now, seq = await controls.read(self._nc, "worker", record.id, timeout_s=timeout_s)
            if record.state == "draining" or (now is not None and now.state == "draining"):
                if verb == "drain":
                    return Wished("worker", record.id, now or control)
                raise ConflictError(
                    f"cannot {verb} worker {record.id}: it drains, which cannot be undone", code="draining"
                )
            try:
                await controls.write(self._publisher, "worker", record.id, control, expected=seq)
            except VersionConflictError:
                continue
            return Wished("worker", record.id, control)
        raise UnavailableError(f"others keep changing the control of worker {record.id}")

    async def queue(self, caller: Caller, what: What, name: str, verb: str) -> tuple[Wished, int]:
        """Pause or resume a lane or a kind; what is wished, and how many consumers follow it now.

        Raises:
            InvalidError: the name is none.
            NotFoundError: there is no such lane.
            UnavailableError: the broker does not answer.
        """
        if subjects.NAME.fullmatch(name) is None:
            raise InvalidError(
                f"{what}: a name that matches {subjects.NAME.pattern} was expected", field=what
            )
        timeout_s = self._settings.request_timeout_s
        # Also a lane that was removed is one: it may be made again.
        if what == "lane" and not await Bucket(self._nc, LANES, timeout_s=timeout_s).keys(name):
            raise NotFoundError(f"there is no lane {name[:SHOWN_CHARS]}", field=what)
        control = _control(WISHES[verb], caller.actor)
        now, _ = await controls.read(self._nc, what, name, timeout_s=timeout_s)
        if (now is None) is not (control is None):
            await controls.write(self._publisher, what, name, control)
        else:
            control = now
        consumers = await controls.carry_out(self._nc, what, name, timeout_s=timeout_s)
        return Wished(what, name, control), consumers


def _control(wish: Wish | None, by: str) -> Control | None:
    return None if wish is None else Control(wish, by, clock.now())
