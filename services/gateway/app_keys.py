"""What a request handler finds in its application."""

from __future__ import annotations

from typing import Final

from aiohttp import web
from nats.aio.client import Client

from switchyard.projections.reader import ReadModel
from switchyard.services.access.authenticator import Authenticator
from switchyard.services.access.lease_tickets import LeaseTokens
from switchyard.services.broker.bucket_use import BucketUse
from switchyard.services.broker.publisher import Publisher
from switchyard.services.dispatch.log_share import LogShare
from switchyard.services.dispatch.rest.claiming import Claiming
from switchyard.services.dispatch.rest.finder import Claims
from switchyard.services.dispatch.rest.log_book import LogBook
from switchyard.services.dispatch.rest.workers import RestWorkers
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.gateway.metrics import Metrics
from switchyard.services.gateway.readiness import Readiness
from switchyard.services.intake.shares import Shares
from switchyard.services.intake.submitter import Submitter
from switchyard.services.records.keys import ApiKeys
from switchyard.services.records.kinds import Kinds
from switchyard.services.records.lanes import Lanes
from switchyard.services.records.limits import Limits
from switchyard.services.records.schedules import ScheduleStore
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
DOCUMENTS_USE: Final = web.AppKey("documents_use", BucketUse)
LOG_SHARE: Final = web.AppKey("log_share", LogShare)
LANES: Final = web.AppKey("lanes", Lanes)
SCHEDULES: Final = web.AppKey("schedules", ScheduleStore)
READ_MODEL: Final = web.AppKey("read_model", ReadModel)
READINESS: Final = web.AppKey("readiness", Readiness)
FRESHNESS: Final = web.AppKey("freshness", Freshness)
FILES: Final = web.AppKey("files", Files)
LOG_BOOK: Final = web.AppKey("log_book", LogBook)
LIVE: Final = web.AppKey("live", LiveFeed)
WORKERS: Final = web.AppKey("workers", WorkerWatch)
PUBLISHER: Final = web.AppKey("publisher", Publisher)
METRICS: Final = web.AppKey("metrics", Metrics)
CLAIMS: Final = web.AppKey("claims", Claims)
CLAIMING: Final = web.AppKey("claiming", Claiming)
REST_WORKERS: Final = web.AppKey("rest_workers", RestWorkers)
LEASE_TOKENS: Final = web.AppKey("lease_tokens", LeaseTokens)
API_KEYS: Final = web.AppKey("api_keys", ApiKeys)
AUTH: Final = web.AppKey("auth", Authenticator)
