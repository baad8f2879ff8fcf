"""What a request handler finds in its application."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from nats.aio.client import Client

from switchyard.projections.reader import ReadModel
from switchyard.services.access.authenticator import Authenticator
from switchyard.services.access.browsers.file_tickets import FileTickets
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.concurrency import Turns
from switchyard.services.dispatch.rest.finder import Claims
from switchyard.services.dispatch.rest.found import Finding
from switchyard.services.event_store import EventStore
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.gateway.metrics import Metrics
from switchyard.services.gateway.operations.backends import Backends
from switchyard.services.gateway.operations.batches.batches import Batches
from switchyard.services.gateway.operations.billing.billing import Billing
from switchyard.services.gateway.operations.controls import Controls
from switchyard.services.gateway.operations.dead_letters import DeadLetters
from switchyard.services.gateway.operations.demand.demand import Demand
from switchyard.services.gateway.operations.erasing.erasures import Erasures
from switchyard.services.gateway.operations.files import TenantFiles
from switchyard.services.gateway.operations.fleet import Fleet
from switchyard.services.gateway.operations.jobs import Jobs
from switchyard.services.gateway.operations.leases import Leases
from switchyard.services.gateway.operations.left.artifacts import Artifacts
from switchyard.services.gateway.operations.left.thumbnails import Thumbnails
from switchyard.services.gateway.operations.limits import TenantLimits
from switchyard.services.gateway.operations.models.catalogue import Catalogue
from switchyard.services.gateway.operations.models.supply import ModelSupply
from switchyard.services.gateway.operations.parting.parting import Parting
from switchyard.services.gateway.operations.previews import JobPreviews
from switchyard.services.gateway.operations.reasons import Reasons
from switchyard.services.gateway.operations.reviews import Reviews
from switchyard.services.gateway.operations.schedules import Schedules
from switchyard.services.gateway.operations.servers.callbacks import Callbacks
from switchyard.services.gateway.operations.servers.servers import PredictionServers
from switchyard.services.gateway.operations.transfers.resumable import ResumableUploads
from switchyard.services.gateway.operations.usage import Usage
from switchyard.services.gateway.operations.workflows.workflows import WorkflowTemplates
from switchyard.services.gateway.readiness import Readiness
from switchyard.services.intake.shares import Shares
from switchyard.services.intake.submitter import Submitter
from switchyard.services.records.keys import ApiKeys
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.limits import Limits
from switchyard.services.records.worker_watch import WorkerWatch
from switchyard.services.settings import Settings

SETTINGS: Final = web.AppKey("settings", Settings)
NATS: Final = web.AppKey("nats", Client)
STORE: Final = web.AppKey("store", EventStore)
SUBMITTER: Final = web.AppKey("submitter", Submitter)
LIMITS: Final = web.AppKey("limits", Limits)
KINDS: Final = web.AppKey("kinds", Kinds)
SHARES: Final = web.AppKey("shares", Shares)
CLAIM_KEYS_USE: Final = web.AppKey("claim_keys_use", BucketUse)
SCHEDULES_USE: Final = web.AppKey("schedules_use", BucketUse)
SERVERS_USE: Final = web.AppKey("servers_use", BucketUse)
DOCUMENTS_USE: Final = web.AppKey("documents_use", BucketUse)
LANES: Final = web.AppKey("lanes", Lanes)
READ_MODEL: Final = web.AppKey("read_model", ReadModel)
READINESS: Final = web.AppKey("readiness", Readiness)
FRESHNESS: Final = web.AppKey("freshness", Freshness)
LIVE: Final = web.AppKey("live", LiveFeed)
WORKERS: Final = web.AppKey("workers", WorkerWatch)
PUBLISHER: Final = web.AppKey("publisher", Publisher)
METRICS: Final = web.AppKey("metrics", Metrics)
CLAIMS: Final = web.AppKey("claims", Claims)
API_KEYS: Final = web.AppKey("api_keys", ApiKeys)
FILE_TICKETS: Final = web.AppKey("file_tickets", FileTickets)
AUTH: Final = web.AppKey("auth", Authenticator)
VERIFIER: Final = web.AppKey("verifier", TokenVerifier)

# What callers may do, whatever the door.
JOBS: Final = web.AppKey("jobs", Jobs)
ERASURES: Final = web.AppKey("erasures", Erasures)
REVIEWS: Final = web.AppKey("reviews", Reviews)
DEAD_LETTERS: Final = web.AppKey("dead_letters", DeadLetters)
LEASES: Final = web.AppKey("leases", Leases)
BACKENDS: Final = web.AppKey("backends", Backends)
PARTING: Final = web.AppKey("parting", Parting)
FINDING: Final = web.AppKey("finding", Finding)
PREVIEWS: Final = web.AppKey("previews", JobPreviews)
CALLBACKS: Final = web.AppKey("callbacks", Callbacks)
REASONS: Final = web.AppKey("reasons", Reasons)
SCHEDULES: Final = web.AppKey("schedules", Schedules)
BATCHES: Final = web.AppKey("batches", Batches)
BATCHES_USE: Final = web.AppKey("batches_use", BucketUse)
WORKFLOWS: Final = web.AppKey("workflows", WorkflowTemplates)
WORKFLOWS_USE: Final = web.AppKey("workflows_use", BucketUse)
SERVERS: Final = web.AppKey("servers", PredictionServers)
TENANT_FILES: Final = web.AppKey("tenant_files", TenantFiles)
UPLOADS: Final = web.AppKey("uploads", ResumableUploads)
ARTIFACTS: Final = web.AppKey("artifacts", Artifacts)
THUMBNAILS: Final = web.AppKey("thumbnails", Thumbnails)
TENANT_LIMITS: Final = web.AppKey("tenant_limits", TenantLimits)
CONTROLS: Final = web.AppKey("controls", Controls)
FLEET: Final = web.AppKey("fleet", Fleet)
CATALOGUE: Final = web.AppKey("catalogue", Catalogue)
SUPPLY: Final = web.AppKey("supply", ModelSupply)
DEMAND: Final = web.AppKey("demand", Demand)
USAGE: Final = web.AppKey("usage", Usage)
BILLING: Final = web.AppKey("billing", Billing)
SUMMING: Final = web.AppKey("summing", Turns)
"""Whose turn it is to have the read model added up for seconds."""
