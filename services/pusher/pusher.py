"""The pusher process: its parts, side by side."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp
import structlog
from nats.aio.client import Client

from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.access.outcome_tickets import OutcomeTokens
from switchyard.services.access.sealing import Sealer
from switchyard.services.access.server_credentials import ServerCredentials
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reachability import Reachability
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.backends.index import Index
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.dispatch.picker.behind import BehindOthers
from switchyard.services.dispatch.picker.passing import Passing
from switchyard.services.dispatch.picker.picker import Picker
from switchyard.services.dispatch.push.callbacks import CALLBACKS
from switchyard.services.dispatch.reports.reporter import Reporter
from switchyard.services.dispatch.start_room import StartRoom
from switchyard.services.event_store import EventStore
from switchyard.services.gc import collect_less_often
from switchyard.services.ids import new_id
from switchyard.services.outbound.addresses import AddressPolicy
from switchyard.services.outbound.client import client
from switchyard.services.pusher.attempt import Means
from switchyard.services.pusher.fleet import Fleet
from switchyard.services.pusher.health import HealthChecks
from switchyard.services.pusher.leasing import answers_of
from switchyard.services.pusher.observing import Observer
from switchyard.services.pusher.profiles.polling import Polling
from switchyard.services.pusher.results import Results
from switchyard.services.pusher.slots import Slots
from switchyard.services.pusher.watching import Watching
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.limits import Limits
from switchyard.services.records.servers.condition import Rhythm
from switchyard.services.records.servers.store import Servers
from switchyard.services.settings import Settings
from switchyard.services.telemetry.part import Telemetry

log = structlog.get_logger()

IDLE_S: Final = 4.0
"""Some servers close a connection after five seconds without a request; a task must not be sent just then."""


class Pusher:
    """Watches the health of prediction servers, and pushes jobs to them.

    Args:
        nc: an open connection.
        settings: limits, timeouts and the data directory.
        telemetry: that of the process; one that nobody reads when not given.
        rhythm: how often servers are checked.
        gateway: the URL under which servers reach a gateway, where the settings do not say.

    Raises:
        InvalidError: the secrets of the data directory cannot be used.
    """

    def __init__(
        self,
        nc: Client,
        settings: Settings,
        telemetry: Telemetry | None = None,
        rhythm: Rhythm | None = None,
        gateway: str | None = None,
    ) -> None:
        self._nc = nc
        self._settings = settings
        self._publisher = Publisher(nc, window=settings.publish_window, timeout_s=settings.request_timeout_s)
        self.servers = Servers(nc, self._publisher, settings)
        part = (telemetry or Telemetry("pusher")).part("pusher")
        self._store = EventStore(nc, self._publisher, settings, part.appends)
        self._credentials = ServerCredentials(Sealer(settings.data_dir))
        self._kinds = Kinds(nc, self._publisher, settings)
        self._limits = Limits(nc, self._publisher, settings)
        self._room = StartRoom(nc, self._store, settings)
        self._picker = Picker(
            nc, settings, weights=lambda kind: self._kinds.of(kind).weights,
            own=BehindOthers(nc, timeout_s=settings.request_timeout_s),
        )  # fmt: skip
        rhythm = rhythm or Rhythm()
        index = Index(nc, self._publisher, timeout_s=settings.request_timeout_s)
        self._delegations = Delegations(self._store, self._picker.tokens, index, settings)
        self._passing = Passing(nc, timeout_s=settings.request_timeout_s)
        self._me = WorkerId(f"pusher.{new_id()}")
        self._results = Results(nc, settings)
        self._reporter = Reporter(
            nc, LogShare(settings.tenant_log_lines_bytes, settings.log_share_s()), self._publisher,
            buffer_bytes=settings.log_buffer_bytes,
        )  # fmt: skip
        polling = Polling(self._delegations, self._results, self._reporter, settings)
        self._watching = Watching(
            nc, self.servers, self._delegations, self._credentials, polling, settings, self._me
        )
        self.fleet = Fleet(
            nc, self.servers, self._picker, settings,
            left=self._watching.running, cancelled=self._watching.cancel_requested,
            may_start=lambda: self._room.is_open, rhythm=rhythm,
        )  # fmt: skip
        self._slots = Slots(nc, self._limits, settings, free=self.fleet.slot_came)
        self.ready = asyncio.Event()
        """Set once all servers are known."""
        self._observer = Observer(part, nc, self.servers, settings, self.fleet, started=self.ready.is_set)
        self._health = HealthChecks(
            self.servers, self._credentials, settings, on_check=self._observer.checked, rhythm=rhythm
        )
        self._tickets = OutcomeTokens(
            TokenVerifier(settings.data_dir, (), issuer=settings.jwt_issuer, audience=settings.jwt_audience)
        )
        public = settings.public_url or gateway or f"http://{settings.host}:{settings.port}"
        self._callbacks = f"{public}{CALLBACKS}"

    def stop(self) -> None:
        """Begin no more pushes, and end once those that run have."""
        self.fleet.stop()

    def _means(self, session: aiohttp.ClientSession) -> Means:
        nc, settings = self._nc, self._settings
        return Means(
            me=self._me, nc=nc, store=self._store, answers=answers_of(nc, settings),
            reach=Reachability(settings.lease_s), picker=self._picker, slots=self._slots,
            credentials=self._credentials, session=session, delegations=self._delegations,
            tickets=self._tickets, results=self._results, files=self._results.files, reporter=self._reporter,
            settings=settings, callbacks=self._callbacks, fits=self.fleet.fits, passing=self._passing,
            failed=self.fleet.failed, ended=self._observer.pushed,
        )  # fmt: skip

    async def run(self) -> None:
        """Check and push, until cancelled, or until `stop` was called and what ran has ended."""
        collect_less_often()
        settings = self._settings
        sessions = client(
            AddressPolicy(settings.server_networks or ()), connections=settings.pushes,
            connect_s=settings.push_connect_s, total_s=settings.attempt_timeout_s, idle_s=IDLE_S,
        )  # fmt: skip
        async with self._results.files, self._publisher, sessions as session:
            self._watching.session = session
            self.fleet.means = self._means(session)
            await self._load()
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(work)
                    for work in (
                        self.servers.run(), self._health.run(), self._watching.run(), self._kinds.run(),
                        self._picker.follow_lanes(), self._picker.follow_pauses(), self._picker.tokens.run(),
                        self._room.run(), self._reporter.run(),
                    )
                ]  # fmt: skip
                self.ready.set()
                log.info("pusher_started")
                await self.fleet.run()
                await self._reporter.sent(settings.request_timeout_s)
                for task in beside:
                    task.cancel()
            await self._slots.stop()
            await self._picker.stop()
        log.info("pusher_stopped")

    async def _load(self) -> None:
        await self.servers.load()
        await self._kinds.load()
        await self._room.load()
        await self._watching.load()
        await self._picker.start()
        await self._picker.tokens.load()
        await self._picker.load()
        await self._slots.start()
