"""The gateway: its application, what runs beside it, and how it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import structlog
from aiohttp import hdrs, web
from nats.aio.client import Client

from switchyard.events.errors import LimitError, SwitchyardError
from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.access.api_keys import ApiKeyIdentifier
from switchyard.services.access.authenticator import Authenticator
from switchyard.services.access.identify import Identifiers, JwtIdentifier
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.access.lease_tickets import LeaseTokens
from switchyard.services.access.rates import Rates
from switchyard.services.access.revocations import Revocations
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.connectors.registry import CONNECTORS, payload_model
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.dispatch.rest import idempotency
from switchyard.services.dispatch.rest.claiming import Claiming
from switchyard.services.dispatch.rest.declarations import Declarations
from switchyard.services.dispatch.rest.finder import Claims
from switchyard.services.dispatch.rest.log_book import LogBook
from switchyard.services.dispatch.rest.workers import RestWorkers
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.files.reservations import Reservations
from switchyard.services.files.room import FileRoom
from switchyard.services.gateway import app_keys, health
from switchyard.services.gateway.doors.octopoid import door as octopoid_door
from switchyard.services.gateway.doors.octopoid import routes as octopoid
from switchyard.services.gateway.doors.v1 import (
    controls,
    keys,
    kinds,
    limits,
    quarantine,
    queues,
    schedules,
    usage,
    workers,
)
from switchyard.services.gateway.doors.v1.files import (
    FILE_ROUTES,
    FileRoutes,
    answer_expectations,
    continue_later,
)
from switchyard.services.gateway.doors.v1.jobs import actions, bulk, dead_letters, explain, reviews, routes
from switchyard.services.gateway.doors.v1.leases import routes as leases
from switchyard.services.gateway.doors.v1.live import sse, websocket
from switchyard.services.gateway.http.connections import (
    CONNECTIONS,
    Connections,
    GuardedSite,
    raise_descriptors,
)
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.gateway.http.identity import (
    DOORKEEPER,
    H_KEY,
    Doorkeeper,
    add_rate_headers,
)
from switchyard.services.gateway.http.problems import about_query, problem_of
from switchyard.services.gateway.http.query import SECONDS, check_form
from switchyard.services.gateway.live.admission import DOOR, LiveDoor
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.gateway.metrics import Metrics
from switchyard.services.gateway.readiness import Readiness
from switchyard.services.gc import collect_less_often
from switchyard.services.intake.shares import Shares
from switchyard.services.intake.spend import Spend
from switchyard.services.intake.submitter import Submitter
from switchyard.services.records import entries
from switchyard.services.records.keys import ApiKeys
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.limits import Limits
from switchyard.services.records.schedules import ScheduleStore
from switchyard.services.records.served_kinds import served_by
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.settings import Settings

log = structlog.get_logger()

# The live routes judge their tokens themselves: a browser brings its own inside the connection.
LIVE_ROUTES: Final = frozenset({"/v1/ws", "/v1/events/stream"})
OPEN: Final = LIVE_ROUTES | {"/healthz", "/readyz"}
UNBOUND: Final = LIVE_ROUTES | {
    "/v1/jobs/bulk", "/v1/leases", "/v1/leases/{id}/artifacts", "/v1/files", "/v1/files/{id}",
    "/v1/dead-letters/redrive", "/v1/dead-letters/discard", "/v1/quarantine",
}  # fmt: skip
KEEP_ALIVE_S: Final = 75.0
UNAUTHENTICATED: Final = 401
# A burst of submissions allocates by the thousand and leaves no cycles; at Python's own threshold looking for
# them took a tenth of a bulk submission's time.

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class CannotListenError(SwitchyardError):
    """The address is taken, not ours, or not permitted."""


@web.middleware
async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let nobody in without a token, slow who tries, tell every error as a problem document, and count."""
    started = time.perf_counter()
    app = request.app
    guard = app[CONNECTIONS]
    # Without proxies only a failure asks for the address, which takes longer than many a request.
    client = guard.address_of(request) if guard.has_proxies else None
    try:
        with guard.request(client):
            response = await _answered(request, handler, started)
        if response.status == UNAUTHENTICATED and not response.prepared and _tried(request):
            await guard.failures.wait(client or guard.address_of(request))
    except LimitError as error:
        response = problem_of(error).response(request.path)
    return response


def _tried(request: web.Request) -> bool:
    return any(name in request.headers for name in (hdrs.AUTHORIZATION, H_KEY, hdrs.SEC_WEBSOCKET_PROTOCOL))


async def _answered(request: web.Request, handler: Handler, started: float) -> web.StreamResponse:
    app = request.app
    try:
        check_form(request)
        if request.path.startswith(octopoid_door.ROOT):
            async with asyncio.timeout(_bound_s(request)):
                response = await octopoid_door.gate(request, handler)
        else:
            if request.path not in OPEN and not (
                request.path == "/metrics" and app[app_keys.SETTINGS].metrics_public
            ):
                await app[DOORKEEPER].let_in(request)
            async with asyncio.timeout(_bound_s(request)):
                response = await handler(request)
    except ConnectionError:
        raise  # the client is gone: nobody is there to be told
    except Exception as error:  # the outermost door: `problem_of` logs what nobody foresaw
        if request.writer.output_size > 0:
            raise  # half an answer is out: only closing the connection can tell
        response = about_query(problem_of(error), request.query).response(request.path)
    resource = request.match_info.route.resource
    route = "unmatched" if resource is None else resource.canonical
    if route not in LIVE_ROUTES:  # they last as long as their client likes
        method = request.method if request.method in hdrs.METH_ALL else "other"
        app[app_keys.METRICS].answered(method, route, response.status, time.perf_counter() - started)
    return response


def _bound_s(request: web.Request) -> float | None:
    """How long a request may take; None for one that lasts as its body, its stream or its own limits do."""
    resource = request.match_info.route.resource
    if resource is None or resource.canonical in UNBOUND:
        return None
    settings = request.app[app_keys.SETTINGS]
    # Whatever else is in the parameter is refused by the route.
    wait = request.query.get("wait", "")
    wait_s = min(float(wait), settings.wait_s) if SECONDS.fullmatch(wait) else 0.0
    return settings.answer_s + wait_s


def add_routes(app: web.Application) -> None:
    """Connect the routes; `docs/api.md` describes each."""
    router = app.router
    router.add_post("/v1/jobs", routes.submit)
    router.add_get("/v1/jobs", routes.list_jobs)
    router.add_post("/v1/jobs/bulk", bulk.bulk)
    router.add_get("/v1/jobs/{id}", routes.get)
    router.add_patch("/v1/jobs/{id}", actions.reprioritise)
    router.add_delete("/v1/jobs/{id}", actions.archive)
    router.add_get("/v1/jobs/{id}/events", routes.events)
    router.add_get("/v1/jobs/{id}/result", routes.result)
    router.add_get("/v1/jobs/{id}/explain", explain.explain)
    router.add_post("/v1/jobs/{id}/cancel", routes.cancel)
    router.add_post("/v1/jobs/{id}/redrive", actions.redrive)
    router.add_post("/v1/jobs/{id}/discard", actions.discard)
    router.add_post("/v1/jobs/{id}/repair", actions.repair)
    router.add_get("/v1/dead-letters", dead_letters.list_dead_letters)
    router.add_post("/v1/dead-letters/redrive", dead_letters.redrive)
    router.add_post("/v1/dead-letters/discard", dead_letters.discard)
    quarantine.add_routes(router)
    schedules.add_routes(router)
    reviews.add_routes(router)
    router.add_get("/v1/workers", workers.list_workers)
    router.add_get("/v1/workers/{id}", workers.get)
    controls.add_routes(router)
    router.add_get("/v1/kinds", kinds.list_kinds)
    router.add_get("/v1/kinds/{kind}", kinds.get)
    router.add_put("/v1/kinds/{kind}", kinds.put)
    router.add_delete("/v1/kinds/{kind}", kinds.delete)
    router.add_get("/v1/queues", queues.list_queues)
    router.add_get("/v1/usage", usage.usage)
    keys.add_routes(router)
    router.add_get("/v1/limits", limits.list_limits)
    router.add_get("/v1/limits/{name}", limits.get)
    router.add_put("/v1/limits/{name}", limits.put)
    router.add_delete("/v1/limits/{name}", limits.delete)
    router.add_get("/v1/ws", websocket.websocket, allow_head=False)
    router.add_get("/v1/events/stream", sse.event_stream, allow_head=False)
    app.add_routes(app[FILE_ROUTES].routes())
    leases.add_routes(router, continue_later)
    router.add_get("/healthz", health.healthz)
    router.add_get("/readyz", health.readyz)
    router.add_get("/metrics", health.metrics)


def _add_all_routes(app: web.Application, nc: Client) -> None:
    add_routes(app)
    octopoid.add(app, nc)
    answer_expectations(app)


@contextlib.asynccontextmanager
async def running_app(settings: Settings, nc: Client) -> AsyncIterator[web.Application]:
    """The application with everything that runs beside it.

    Args:
        settings: limits, timeouts and the data directory.
        nc: a connection to a broker that has the streams.

    Raises:
        InvalidError: the secrets or public keys cannot be used.
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
    async with Publisher(nc, window=settings.publish_window, timeout_s=timeout_s) as publisher:
        store = EventStore(nc, publisher, settings)
        files = Files(
            nc, timeout_s=timeout_s, upload_timeout_s=settings.upload_timeout_s, room=FileRoom(nc, settings)
        )
        authenticator = Authenticator(verifier, revocations, size=settings.token_cache)
        live = LiveFeed(nc, settings)
        watch = WorkerWatch(nc, timeout_s=timeout_s)
        app[app_keys.SETTINGS] = settings
        app[CONNECTIONS] = Connections(settings, raise_descriptors())
        app[app_keys.NATS] = nc
        app[app_keys.PUBLISHER] = publisher
        app[app_keys.STORE] = store
        app[app_keys.WORKERS] = watch
        _add_read_side(app, nc, read_model, live)
        followed = await _add_submitter(app, nc, files)
        counting = _add_buckets(app, nc)
        app[app_keys.FILES] = files
        app[app_keys.METRICS] = Metrics(store)
        app[app_keys.AUTH] = authenticator
        app[FILE_ROUTES] = FileRoutes(files, read_model, settings)
        app[app_keys.LEASE_TOKENS] = LeaseTokens(verifier)
        reservations = Reservations(nc, app[FILE_ROUTES].quota, timeout_s=timeout_s)
        claiming = await _add_claims(app, nc)
        _add_all_routes(app, nc)
        api_keys = await _add_callers(app, authenticator)
        app.on_shutdown.append(_close_waiting)
        await revocations.load()
        failure: SwitchyardError | None = None
        try:
            async with reservations.answered(), asyncio.TaskGroup() as tasks:
                beside = [
                    tasks.create_task(part.run())
                    for part in (revocations, api_keys, live, watch, *followed, *claiming, *counting)
                ]
                try:
                    yield app
                except SwitchyardError as error:
                    failure = error  # told as it is, not as one of a group
                finally:
                    for task in beside:
                        task.cancel()
        finally:
            read_model.close()
        if failure is not None:
            raise failure


async def _add_callers(app: web.Application, authenticator: Authenticator) -> ApiKeys:
    """Put in what knows who calls; what of it has to follow changes, to be run."""
    settings = app[app_keys.SETTINGS]
    api_keys = app[app_keys.API_KEYS] = ApiKeys(app[app_keys.NATS], app[app_keys.PUBLISHER], settings)
    await api_keys.load()
    identifiers = Identifiers(
        [JwtIdentifier(authenticator), ApiKeyIdentifier(api_keys), app[octopoid_door.KEYS]]
    )
    rates = Rates(size=settings.token_cache)
    app[DOORKEEPER] = Doorkeeper(identifiers, app[app_keys.LIMITS].requests_of, rates)
    app[DOOR] = LiveDoor(app[app_keys.LIVE], app[DOORKEEPER])
    app.on_response_prepare.append(add_rate_headers)
    return api_keys


def _add_read_side(app: web.Application, nc: Client, read_model: ReadModel, live: LiveFeed) -> None:
    """Put in what reads and live updates go by."""
    settings = app[app_keys.SETTINGS]
    app[app_keys.READ_MODEL] = read_model
    app[app_keys.LIVE] = live
    app[app_keys.FRESHNESS] = Freshness(nc, read_model, settings)
    app[app_keys.READINESS] = Readiness(nc, read_model, live, settings)


async def _add_submitter(
    app: web.Application, nc: Client, files: Files
) -> tuple[Lanes | Limits | Kinds, ...]:
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
    app[app_keys.SUBMITTER] = Submitter(
        app[app_keys.STORE],
        lanes,
        limits_,
        kinds_,
        files.exists,
        shares,
        settings,
        Spend(app[app_keys.READ_MODEL].jobs_by_key),
    )
    return lanes, limits_, kinds_


def _add_buckets(app: web.Application, nc: Client) -> tuple[BucketUse, ...]:
    """Put in the schedules, and what counts how much of each bucket a tenant has filled, to be run."""
    settings = app[app_keys.SETTINGS]
    app[app_keys.LOG_SHARE] = LogShare(settings.tenant_log_lines_bytes)
    app[app_keys.CLAIM_KEYS_USE] = idempotency.use_of(nc, settings)
    app[app_keys.SCHEDULES_USE] = schedules.use_of(nc, settings)
    app[app_keys.DOCUMENTS_USE] = entries.use_of(nc, settings)
    app[app_keys.SCHEDULES] = ScheduleStore(
        nc, app[app_keys.PUBLISHER], tries=settings.append_tries, timeout_s=settings.request_timeout_s,
        use=app[app_keys.SCHEDULES_USE],
    )  # fmt: skip
    return app[app_keys.CLAIM_KEYS_USE], app[app_keys.SCHEDULES_USE], app[app_keys.DOCUMENTS_USE]


async def _add_claims(app: web.Application, nc: Client) -> tuple[Claims | RestWorkers, ...]:
    """Put in what claims over REST go by; what of it has to run."""
    publisher, settings = app[app_keys.PUBLISHER], app[app_keys.SETTINGS]
    app[app_keys.LOG_BOOK] = LogBook(settings)
    claims = Claims(nc, settings, app[app_keys.READ_MODEL], lambda kind: app[app_keys.KINDS].of(kind).weights)
    watch = app[app_keys.WORKERS]
    declarations = Declarations(nc, publisher, watch, settings)
    rest = RestWorkers(nc, publisher, declarations, settings)
    app[app_keys.CLAIMS], app[app_keys.REST_WORKERS] = claims, rest
    app[app_keys.CLAIMING] = Claiming(
        nc, app[app_keys.STORE], publisher, claims, rest, declarations, watch, settings,
        app[app_keys.CLAIM_KEYS_USE], app[app_keys.SHARES].room,
    )  # fmt: skip
    await claims.start()
    return claims, rest


async def _close_waiting(app: web.Application) -> None:
    app[DOOR].close()
    app[app_keys.CLAIMS].close()


async def serve(settings: Settings, nc: Client, *, ready: Callable[[str], None]) -> None:
    """Serve until cancelled; then requests in progress get `drain_grace_s` to end.

    Args:
        settings: limits, timeouts, the address and the data directory.
        nc: a connection to a broker that has the streams.
        ready: called once with the URL that is being served.

    Raises:
        CannotListenError: the address cannot be used.
        InvalidError: the secrets or public keys cannot be used.
        UnavailableError: the broker does not answer.
    """
    collect_less_often()
    async with running_app(settings, nc) as app:
        runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=settings.drain_grace_s
        )
        await runner.setup()
        try:
            site = GuardedSite(
                runner, app[CONNECTIONS], settings.host, settings.port,
                access_log=None, keepalive_timeout=KEEP_ALIVE_S, auto_decompress=False,
            )  # fmt: skip
            try:
                await site.start()
            except OSError as error:
                raise CannotListenError(
                    f"cannot listen on {settings.host}:{settings.port}: {error.strerror or error}; "
                    "choose another with --port"
                ) from None
            ready(_url(settings, runner))
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


def _url(settings: Settings, runner: web.AppRunner) -> str:
    port = runner.addresses[0][1]
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{port}"
