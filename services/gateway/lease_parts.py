"""What leases, reports of back ends and orders of models go by at a gateway, put together."""

from __future__ import annotations

from aiohttp import web
from nats.aio.client import Client

from switchyard.services.access.browsers.standing import Standing
from switchyard.services.access.browsers.tickets import LiveTickets
from switchyard.services.access.lease_tickets import LeaseTokens
from switchyard.services.access.outcome_tickets import OutcomeTokens
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.backends.index import Index
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.dispatch.parts.joining import Parts
from switchyard.services.dispatch.rest.claiming import Claiming
from switchyard.services.dispatch.rest.declarations import Declarations
from switchyard.services.dispatch.rest.finder import Claims
from switchyard.services.dispatch.rest.found import Finding
from switchyard.services.dispatch.rest.workers import RestWorkers
from switchyard.services.gateway import app_keys
from switchyard.services.gateway.operations.backends import Backends
from switchyard.services.gateway.operations.leases import Leases
from switchyard.services.gateway.operations.models.supply import ModelSupply
from switchyard.services.gateway.operations.outcomes import Outcomes
from switchyard.services.gateway.operations.parting.parting import Parting
from switchyard.services.gateway.operations.previews import JobPreviews
from switchyard.services.gateway.operations.servers.callbacks import Callbacks


async def add_claims(
    app: web.Application, nc: Client, tokens: LeaseTokens
) -> tuple[Claims | RestWorkers | JobPreviews | ModelSupply, ...]:
    """Put in what claims over REST go by; what of it has to run."""
    publisher, settings = app[app_keys.PUBLISHER], app[app_keys.SETTINGS]
    claims = Claims(nc, settings, app[app_keys.READ_MODEL], lambda kind: app[app_keys.KINDS].of(kind).weights)
    watch = app[app_keys.WORKERS]
    declarations = Declarations(nc, publisher, watch, settings)
    rest = RestWorkers(nc, publisher, declarations, settings)
    app[app_keys.CLAIMS] = claims
    claiming = Claiming(
        nc, app[app_keys.STORE], publisher, claims, rest, declarations, watch, settings,
        app[app_keys.CLAIM_KEYS_USE], app[app_keys.SHARES].room,
    )  # fmt: skip
    share = LogShare(settings.tenant_log_lines_bytes, settings.log_share_s())
    outcomes = Outcomes(nc, publisher, app[app_keys.TENANT_FILES], share, settings)
    app[app_keys.SUPPLY] = ModelSupply(
        app[app_keys.CATALOGUE], app[app_keys.FLEET], watch, claiming.lacking, nc
    )
    index = Index(nc, publisher, timeout_s=settings.request_timeout_s)
    delegations = Delegations(app[app_keys.STORE], claims.tokens, index, settings)
    app[app_keys.LEASES] = Leases(app[app_keys.JOBS], claiming, tokens, rest, outcomes, delegations)
    reader = Parts(app[app_keys.STORE], app[app_keys.TENANT_FILES].files)
    app[app_keys.PARTING] = Parting(app[app_keys.LEASES], reader)
    app[app_keys.FINDING] = Finding(nc, claiming, delegations, app[app_keys.STORE], rest, settings)
    previews = app[app_keys.PREVIEWS] = JobPreviews(
        nc, app[app_keys.LEASES], settings, app[app_keys.METRICS].preview
    )
    await claims.start()
    return claims, rest, previews, app[app_keys.SUPPLY]


def add_backends(app: web.Application, tokens: OutcomeTokens) -> None:
    """Put in what takes the reports of back ends, prediction servers among them."""
    leases, settings = app[app_keys.LEASES], app[app_keys.SETTINGS]
    backends = app[app_keys.BACKENDS] = Backends(leases, tokens, settings)
    servers = app[app_keys.SERVERS]
    app[app_keys.CALLBACKS] = Callbacks(
        backends, leases.delegations, servers.registry, servers.credentials, leases.outcomes, settings
    )


def live_tickets(app: web.Application) -> LiveTickets:
    """What gives tickets for live connections, and takes them."""
    settings = app[app_keys.SETTINGS]
    standing = Standing(app[app_keys.VERIFIER], app[app_keys.AUTH].revocations, app[app_keys.API_KEYS])
    return LiveTickets(
        app[app_keys.NATS], app[app_keys.PUBLISHER], standing, timeout_s=settings.request_timeout_s
    )
