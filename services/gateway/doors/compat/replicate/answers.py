"""What the door for Replicate's clients answers, as structs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from switchyard.services.gateway.doors.compat.jobs import Left

When = Annotated[datetime, Meta(tz=True)]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer."""


class RefusalAnswer(Answer, frozen=True, kw_only=True):
    """What went wrong; `code` and `field` are added."""

    title: str
    detail: str
    status: int
    code: str
    field: str | UnsetType = UNSET


class Urls(Answer, frozen=True, kw_only=True):
    """Where a prediction is read, cancelled and followed."""

    get: str
    cancel: str
    stream: str


class Prediction(Answer, frozen=True, kw_only=True):
    """A prediction; `artifacts` is added."""

    id: str
    model: str
    version: str
    status: str
    input: Any
    output: Any
    logs: str
    error: str | None
    metrics: Mapping[str, float]
    created_at: When | None
    started_at: When | None
    completed_at: When | None
    urls: Urls
    data_removed: bool = False
    source: str = "api"
    artifacts: Sequence[Left] | UnsetType = UNSET


class Predictions(Answer, frozen=True, kw_only=True):
    """A page of predictions, newest first; without input and logs."""

    results: Sequence[Prediction]
    next: str | None
    previous: str | None = None


class Version(Answer, frozen=True, kw_only=True):
    """A version of a model: there is one, which is its kind."""

    id: str
    created_at: When
    cog_version: str
    openapi_schema: Mapping[str, Any]


class Versions(Answer, frozen=True, kw_only=True):
    """The versions of a model."""

    results: Sequence[Version]
    next: str | None = None
    previous: str | None = None


class Model(Answer, frozen=True, kw_only=True):
    """A model, which is a kind."""

    url: str
    owner: str
    name: str
    latest_version: Version
    description: str | None = None
    visibility: str = "private"
    github_url: str | None = None
    paper_url: str | None = None
    license_url: str | None = None
    run_count: int = 0
    cover_image_url: str | None = None
    default_example: None = None


class Deployment(Answer, frozen=True, kw_only=True):
    """A deployment, which is a kind as well."""

    owner: str
    name: str
    current_release: None = None


class Account(Answer, frozen=True, kw_only=True):
    """The caller's tenant."""

    type: str
    username: str
    name: str
    github_url: str | None = None


class FileUrls(Answer, frozen=True, kw_only=True):
    """The address of a file, which stands for it in inputs."""

    get: str


class File(Answer, frozen=True, kw_only=True):
    """A file."""

    id: str
    name: str
    content_type: str
    size: int
    etag: str
    checksums: Mapping[str, str]
    created_at: When
    expires_at: When | None
    urls: FileUrls
    metadata: Mapping[str, Any] = {}


class Files(Answer, frozen=True, kw_only=True):
    """A page of files, newest first."""

    results: Sequence[File]
    next: str | None
    previous: str | None = None
