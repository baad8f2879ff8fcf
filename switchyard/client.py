"""The client: `Client` for plain programs, `AsyncClient` for asyncio; `docs/client.md` shows both."""

from __future__ import annotations

from switchyard._client.aio import AsyncClient
from switchyard._client.sync import Client
from switchyard.errors import (
    ApiError,
    AuthenticationError,
    BrokenTransferError,
    ClientError,
    ConfigurationError,
    ConflictError,
    ForbiddenError,
    ForkedError,
    GoneError,
    InvalidError,
    InvalidValueError,
    JobDamagedError,
    JobFailedError,
    LimitError,
    NotEndedError,
    NotFoundError,
    ServerError,
    UnreachableError,
)
from switchyard.models import (
    BulkAnswer,
    CaughtUp,
    Damage,
    Event,
    File,
    Identity,
    Job,
    JobError,
    Key,
    LiveMessage,
    LogLine,
    NewKey,
    Progress,
    ProgressReport,
    Resync,
    Submission,
    Transition,
)

__all__ = [
    "ApiError", "AsyncClient", "AuthenticationError", "BrokenTransferError", "BulkAnswer", "CaughtUp",
    "Client", "ClientError", "ConfigurationError", "ConflictError", "Damage", "Event", "File",
    "ForbiddenError", "ForkedError", "GoneError", "Identity", "InvalidError", "InvalidValueError", "Job",
    "JobDamagedError", "JobError", "JobFailedError", "Key", "LimitError", "LiveMessage", "LogLine",
    "NewKey", "NotEndedError", "NotFoundError", "Progress", "ProgressReport", "Resync", "ServerError",
    "Submission", "Transition", "UnreachableError",
]  # fmt: skip
