"""The gateway: its application, what runs beside it, and how it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import structlog
from aiohttp import web
from nats.aio.client import Client

from switchyard.events.errors import SwitchyardError
from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.access.api_keys import ApiKeyIdentifier
from switchyard.services.access.authenticator import Authenticator
from switchyard.services.access.identify import Identifiers, JwtIdentifier
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.access.lease_tickets import LeaseTokens
from switchyard.services.access.model_credentials import ModelCredentials
from switchyard.services.access.outcome_tickets import OutcomeTokens
from switchyard.services.access.rates import Rates
from switchyard.services.access.revocations import Revocations
from switchyard.services.access.sealing import Sealer
from switchyard.services.access.server_credentials import ServerCredentials
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.concurrency import Turns
from switchyard.services.connectors.registry import CONNECTORS, payload_model
from switchyard.services.dispatch.rest import idempotency
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.files.reservations import Reservations
from switchyard.services.files.s3.addresses import answered
from switchyard.services.files.s3.signing import Addresses
from switchyard.services.gateway import app_keys, health
from switchyard.services.gateway.doors.v1.live.watched import boards_of
from switchyard.services.gateway.every_door import doors
from switchyard.services.gateway.gate import DOORS, House, answer_expectations, gate
from switchyard.services.gateway.http.connections import (
    CONNECTIONS,
    Connections,
    GuardedSite,
    raise_descriptors,
)
from switchyard.services.gateway.http.doors import Beside, Door, Doors
from switchyard.services.gateway.http.edge.cors import CORS, Cors
from switchyard.services.gateway.http.edge.leaving import Leaving
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.gateway.http.identity import DOORKEEPER, Doorkeeper
from switchyard.services.gateway.lease_parts import add_backends, add_claims, live_tickets
from switchyard.services.gateway.live.admission import DOOR, LiveDoor
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.gateway.metrics import Metrics
from switchyard.services.gateway.openapi.served import DESCRIPTION, Description
from switchyard.services.gateway.operations import schedules
from switchyard.services.gateway.operations.batches.batches import Batches
from switchyard.services.gateway.operations.billing.billing import Billing
from switchyard.services.gateway.operations.controls import Controls
from switchyard.services.gateway.operations.dead_letters import DeadLetters
from switchyard.services.gateway.operations.demand.demand import Demand
from switchyard.services.gateway.operations.erasing.erasures import Erasures
from switchyard.services.gateway.operations.files import TenantFiles
from switchyard.services.gateway.operations.fleet import Fleet
from switchyard.services.gateway.operations.jobs import Jobs
from switchyard.services.gateway.operations.left.artifacts import Artifacts
from switchyard.services.gateway.operations.left.thumbnails import Thumbnails
from switchyard.services.gateway.operations.limits import TenantLimits
from switchyard.services.gateway.operations.models.catalogue import Catalogue
from switchyard.services.gateway.operations.reasons import Reasons
from switchyard.services.gateway.operations.reviews import Reviews
from switchyard.services.gateway.operations.servers.servers import PredictionServers
from switchyard.services.gateway.operations.usage import Usage
from switchyard.services.gateway.operations.workflows.workflows import WorkflowTemplates, offered_by
from switchyard.services.gateway.readiness import Readiness
from switchyard.services.gc import collect_less_often
from switchyard.services.intake.budgets import Budgets
from switchyard.services.intake.erasing import Eraser
from switchyard.services.intake.shares import Shares
from switchyard.services.intake.spend import Spend
from switchyard.services.intake.submitter import Submitter
from switchyard.services.intake.vault import Vault
from switchyard.services.intake.workflows.templates import Templates
from switchyard.services.ledger.prices import Prices
from switchyard.services.ledger.quotas import Quotas
from switchyard.services.records.batches import store as batch_store
from switchyard.services.records.entries import documents as entries
from switchyard.services.records.keys import ApiKeys
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.limits import Limits
from switchyard.services.records.models.store import Models
from switchyard.services.records.schedules import ScheduleStore
from switchyard.services.records.served_kinds import served_by
from switchyard.services.records.servers import store as server_store
from switchyard.services.records.servers.store import Servers
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.records.workflows import store as workflow_store
from switchyard.services.records.workflows.store import Workflows
from switchyard.services.settings import Settings
from switchyard.services.telemetry.listener import CannotListenError
from switchyard.services.telemetry.part import Telemetry

log = structlog.get_logger()

KEEP_ALIVE_S: Final = 75.0
SUMS_AT_ONCE: Final = 2
"""Questions for sums of the read model that are under way; each may take a processor for seconds."""


@contextlib.asynccontextmanager
async def running_app(
    settings: Settings, nc: Client, others: Sequence[Door] = (), telemetry: Telemetry | None = None
) -> AsyncIterator[web.Application]:
    """The application with everything that runs beside it.

    Args:
        settings: limits, timeouts and the data directory.
        nc: a connection to a broker that has the streams.
        others: doors beside those that every gateway has.
        telemetry: that of the process; its own when not given.

    Raises:
        InvalidError: the secrets or public keys cannot be used, or two doors want the same paths.
        UnavailableError: the broker does not answer.
    """
    timeout_s = settings.request_timeout_s
    for kind in CONNECTORS:
        payload_model(kind)  # imported now, not within the first request
    app = web.Application(middlewares=[gate], client_max_size=settings.body_bytes)
    read_model = ReadModel(path_in(settings.data_dir))
    revocations = Revocations(nc, timeout_s=timeout_s)
    verifier = TokenVerifier(
        settings.data_dir,
        settings.jwt_public_keys,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )
    async with (
        Publisher(nc, window=settings.publish_window, timeout_s=timeout_s) as publisher,
        Files.of(nc, settings) as files,
    ):
        metrics = Metrics(telemetry or Telemetry("gateway", names=settings.metrics_names))
        store = EventStore(nc, publisher, settings, metrics.appends)
        authenticator = Authenticator(verifier, revocations, size=settings.token_cache)
        freshness = app[app_keys.FRESHNESS] = Freshness(nc, read_model, settings)
        live = LiveFeed(nc, settings, read_model, freshness)
        watch = WorkerWatch(nc, timeout_s=timeout_s)
        app[app_keys.SETTINGS] = settings
        app[CONNECTIONS] = Connections(settings, raise_descriptors())
        app[app_keys.NATS] = nc
        app[app_keys.PUBLISHER] = publisher
        app[app_keys.STORE] = store
        app[app_keys.WORKERS] = watch
        app[app_keys.METRICS] = metrics
        app[app_keys.AUTH], app[app_keys.VERIFIER] = authenticator, verifier
        _add_read_side(app, nc, read_model, live)
        followed = await _add_submitter(app, nc, files)
        counting = await _add_buckets(app, nc)
        tenant_files = app[app_keys.TENANT_FILES] = TenantFiles(
            files, read_model, settings, Addresses.of(nc, settings, files.s3)
        )
        reservations = Reservations(nc, tenant_files.quota, timeout_s=timeout_s)
        _add_operations(app, nc, files)
        claiming = await add_claims(app, nc, LeaseTokens(verifier))
        add_backends(app, OutcomeTokens(verifier))
        opened = await _open_doors(app, (*doors(), *others))
        health.observe(app)
        app.on_shutdown.append(_close_waiting)
        await revocations.load()
        failure: SwitchyardError | None = None
        try:
            async with (
                reservations.answered(),
                answered(nc, files.info, tenant_files.addresses, timeout_s=timeout_s),
                asyncio.TaskGroup() as tasks,
            ):
                beside = [
                    tasks.create_task(part.run())
                    for part in (revocations, live, watch, *followed, *claiming, *counting, *opened)
                ]
                try:
                    yield app
                except SwitchyardError as error:
                    failure = error  # reported as it is, not as one of a group
                finally:
                    for task in beside:
                        task.cancel()
        finally:
            read_model.close()
        if failure is not None:
            raise failure


def _add_read_side(app: web.Application, nc: Client, read_model: ReadModel, live: LiveFeed) -> None:
    """Put in what reads and live updates go by."""
    settings = app[app_keys.SETTINGS]
    app[app_keys.READ_MODEL] = read_model
    app[app_keys.LIVE] = live
    app[app_keys.READINESS] = Readiness(nc, read_model, live, settings)


async def _add_submitter(
    app: web.Application, nc: Client, files: Files
) -> tuple[Lanes | Limits | Kinds | Prices | Quotas, ...]:
    """Put in what submissions go by; what of it has to follow changes, to be run."""
    publisher, settings = app[app_keys.PUBLISHER], app[app_keys.SETTINGS]
    limits_ = app[app_keys.LIMITS] = Limits(nc, publisher, settings)
    kinds_ = app[app_keys.KINDS] = Kinds(nc, publisher, settings)
    lanes = app[app_keys.LANES] = Lanes(
        nc, publisher, settings, served_by(kinds_, app[app_keys.WORKERS].kinds)
    )
    shares = app[app_keys.SHARES] = Shares(app[app_keys.READ_MODEL].use, settings)
    await limits_.load()
    await kinds_.load()
    await shares.load(nc)
    prices, quotas = Prices(nc, publisher, settings), Quotas(nc, publisher, settings)
    await prices.load()
    await quotas.load()
    budgets = Budgets(quotas, prices, app[app_keys.READ_MODEL])
    turns = app[app_keys.SUMMING] = Turns(SUMS_AT_ONCE)
    app[app_keys.BILLING] = Billing(app[app_keys.READ_MODEL], prices, quotas, budgets, turns)
    app[app_keys.WORKFLOWS_USE] = workflow_store.use_of(nc, settings)
    workflows = Workflows(nc, publisher, settings, app[app_keys.WORKFLOWS_USE])
    templates = Templates(workflows, offered_by(app[app_keys.WORKERS]))
    submitter = app[app_keys.SUBMITTER] = Submitter(
        app[app_keys.STORE],
        lanes,
        limits_,
        kinds_,
        Vault(nc, files, settings),
        shares,
        settings,
        templates,
        Spend(app[app_keys.READ_MODEL].jobs_by_key),
        budgets,
    )
    app[app_keys.WORKFLOWS] = WorkflowTemplates(workflows, templates, submitter, settings)
    return lanes, limits_, kinds_, prices, quotas


async def _add_buckets(app: web.Application, nc: Client) -> tuple[BucketUse | Servers | Models, ...]:
    """Put in schedules and servers, and what counts how much each tenant has of each, to be run."""
    settings = app[app_keys.SETTINGS]
    app[app_keys.CLAIM_KEYS_USE] = idempotency.use_of(nc, settings)
    app[app_keys.SCHEDULES_USE] = schedules.use_of(nc, settings)
    app[app_keys.DOCUMENTS_USE] = entries.use_of(nc, settings)
    app[app_keys.SERVERS_USE] = server_store.use_of(nc, settings)
    app[app_keys.BATCHES_USE] = batch_store.use_of(nc, settings)
    store = ScheduleStore(
        nc, app[app_keys.PUBLISHER], tries=settings.append_tries, timeout_s=settings.request_timeout_s,
        use=app[app_keys.SCHEDULES_USE],
    )  # fmt: skip
    app[app_keys.SCHEDULES] = schedules.Schedules(store, app[app_keys.SUBMITTER], settings)
    servers = Servers(nc, app[app_keys.PUBLISHER], settings, app[app_keys.SERVERS_USE])
    await servers.load()
    credentials = ServerCredentials(Sealer(settings.data_dir))
    app[app_keys.SERVERS] = PredictionServers(nc, servers, credentials, settings)
    models = Models(nc, app[app_keys.PUBLISHER], settings)
    await models.load()
    app[app_keys.CATALOGUE] = Catalogue(models, ModelCredentials(Sealer(settings.data_dir)), settings)
    uses = (
        app_keys.CLAIM_KEYS_USE, app_keys.SCHEDULES_USE, app_keys.DOCUMENTS_USE, app_keys.SERVERS_USE,
        app_keys.WORKFLOWS_USE, app_keys.BATCHES_USE,
    )  # fmt: skip
    return servers, models, *(app[use] for use in uses)


def _add_operations(app: web.Application, nc: Client, files: Files) -> None:
    """Put in what callers may do, leases aside."""
    settings, publisher = app[app_keys.SETTINGS], app[app_keys.PUBLISHER]
    read_model, watch, lanes = app[app_keys.READ_MODEL], app[app_keys.WORKERS], app[app_keys.LANES]
    freshness = app[app_keys.FRESHNESS]
    eraser = Eraser(nc, app[app_keys.STORE], files, publisher, settings)
    jobs = app[app_keys.JOBS] = Jobs(
        app[app_keys.STORE], app[app_keys.SUBMITTER], lanes, app[app_keys.SHARES], read_model,
        app[app_keys.LIVE], freshness, app[app_keys.METRICS],
        eraser, settings,
    )  # fmt: skip
    app[app_keys.ERASURES] = Erasures(jobs, eraser, files)
    app[app_keys.ARTIFACTS], app[app_keys.THUMBNAILS] = Artifacts(files), Thumbnails(files)
    app[app_keys.REVIEWS] = Reviews(jobs)
    batches = batch_store.Batches(nc, publisher, settings, app[app_keys.BATCHES_USE])
    app[app_keys.BATCHES] = Batches(batches, files, read_model, settings)
    app[app_keys.DEAD_LETTERS] = DeadLetters(jobs)
    limits = app[app_keys.TENANT_LIMITS] = TenantLimits(app[app_keys.LIMITS], lanes, read_model)
    models = app[app_keys.CATALOGUE].models
    shelf = app[app_keys.CATALOGUE].shelf
    app[app_keys.REASONS] = Reasons(nc, jobs, limits, watch, app[app_keys.SERVERS], shelf)
    app[app_keys.CONTROLS] = Controls(nc, publisher, read_model, watch, settings)
    fleet = app[app_keys.FLEET] = Fleet(watch, read_model, freshness, lanes, models)
    app[app_keys.DEMAND] = Demand(nc, fleet, limits, settings, watch, shelf)
    app[app_keys.USAGE] = Usage(
        app[app_keys.SHARES], lanes, app[app_keys.TENANT_FILES].quota,
        schedules=app[app_keys.SCHEDULES_USE], claim_keys=app[app_keys.CLAIM_KEYS_USE],
        documents=app[app_keys.DOCUMENTS_USE], workflows=app[app_keys.WORKFLOWS_USE], settings=settings,
    )  # fmt: skip


async def _open_doors(app: web.Application, found: Sequence[Door]) -> list[Beside]:
    """Put in the doors; what runs beside them.

    Raises:
        InvalidError: two of them want the same paths.
    """
    registry = app[DOORS] = Doors(House(metrics_public=app[app_keys.SETTINGS].metrics_public), found)
    registry.connect(app.router)
    routes = [route for door in registry.all for route in door.routes()]
    cors = app[CORS] = Cors(app[app_keys.SETTINGS].cors_origins, routes)
    app.on_response_prepare.append(Leaving(cors).see_off)
    answer_expectations(app)
    app[DESCRIPTION] = Description(registry.all)
    settings = app[app_keys.SETTINGS]
    api_keys = app[app_keys.API_KEYS] = ApiKeys(app[app_keys.NATS], app[app_keys.PUBLISHER], settings)
    await api_keys.load()
    opened = [part for door in registry.all for part in await door.open(app)]
    registry.listen(app)
    others = [one for door in found for one in door.identifiers()]
    identifiers = Identifiers([JwtIdentifier(app[app_keys.AUTH]), ApiKeyIdentifier(api_keys), *others])
    rates = Rates(size=settings.token_cache)
    app[DOORKEEPER] = Doorkeeper(identifiers, app[app_keys.LIMITS].requests_of, rates)
    boards = boards_of(app)
    app[DOOR] = LiveDoor(app[app_keys.LIVE], app[DOORKEEPER], boards, live_tickets(app))
    return [*opened, api_keys, boards]


async def _close_waiting(app: web.Application) -> None:
    app[DOOR].close()
    app[app_keys.CLAIMS].close()


async def serve(
    settings: Settings, nc: Client, *, ready: Callable[[str], None], telemetry: Telemetry | None = None
) -> None:
    """Serve until cancelled; then requests in progress get `drain_grace_s` to end.

    Args:
        settings: limits, timeouts, the address and the data directory.
        nc: a connection to a broker that has the streams.
        ready: called once with the URL that is being served.
        telemetry: that of the process.

    Raises:
        CannotListenError: the address cannot be used.
        InvalidError: the secrets or public keys cannot be used.
        UnavailableError: the broker does not answer.
    """
    collect_less_often()
    async with running_app(settings, nc, telemetry=telemetry) as app:
        runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=settings.drain_grace_s
        )
        await runner.setup()
        try:
            await _listen(runner, app, settings.host, settings.port, "choose another with --port")
            url = _url(settings.host, runner)
            for door, listener in app[DOORS].listeners.items():
                advice = f"choose another with {door}_port"
                await _listen(runner, app, listener.host, listener.port, advice, door=door)
                log.info("door_listening", door=door, port=runner.addresses[-1][1])
            ready(url)
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


async def _listen(
    runner: web.AppRunner, app: web.Application, host: str, port: int, advice: str, *, door: str = ""
) -> None:
    """Answer at an address.

    Raises:
        CannotListenError: it cannot be used.
    """
    site = GuardedSite(
        runner, app[CONNECTIONS], host, port, door=door,
        access_log=None, keepalive_timeout=KEEP_ALIVE_S, auto_decompress=False,
    )  # fmt: skip
    try:
        await site.start()
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}; {advice}"
        raise CannotListenError(message) from None


def _url(host: str, runner: web.AppRunner) -> str:
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{runner.addresses[0][1]}"
