"""Model files of the catalogue, those on their way to workers, and what workers are to fetch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import UNSET, UnsetType

from switchyard.services.gateway.doors.v1.answers.base import Answer
from switchyard.services.records.models.store import Found


class FetchAnswer(Answer, frozen=True, kw_only=True):
    """A model file on its way to a worker; `left_s` as its pace was last."""

    model: str
    worker: str
    connector: str
    done_bytes: int
    size_bytes: int
    left_s: float | None


class ModelAnswer(Answer, frozen=True, kw_only=True):
    """A file of the catalogue.

    Its address, the names of the headers that are sent there, and the tenants that it is for are shown to
    those who may change it.
    """

    folder: str
    name: str
    sha256: str
    size_bytes: int
    vram_mib: int
    revision: int
    created_at: datetime
    updated_at: datetime
    url: str | UnsetType = UNSET
    tenants: Sequence[str] | UnsetType = UNSET
    credentials: Sequence[str] | UnsetType = UNSET
    created_by: str | UnsetType = UNSET


class ModelPage(Answer, frozen=True, kw_only=True):
    """Files by folder and name."""

    models: Sequence[ModelAnswer]
    cursor: str | None


class OrderAnswer(Answer, frozen=True, kw_only=True):
    """A file that a worker is to fetch; `headers` are sent to the origin of `url` alone."""

    folder: str
    name: str
    claim: str
    revision: int
    url: str
    sha256: str
    size_bytes: int
    headers: Mapping[str, str]
    keep: Sequence[tuple[str, str]]


class ReplyAnswer(Answer, frozen=True, kw_only=True):
    """What a worker is to do: `order` is what is next, `go_on` whether what it fetches is still wanted."""

    order: OrderAnswer | None
    go_on: bool
    why: str


def model_answer(found: Found, *, whole: bool) -> ModelAnswer:
    """A file; `whole` for those who may change it."""
    model = found.model
    sealed = model.credentials
    return ModelAnswer(
        folder=model.folder, name=model.name, sha256=model.sha256, size_bytes=model.size_bytes,
        vram_mib=model.vram_mib, revision=found.revision, created_at=model.created_at,
        updated_at=model.updated_at, url=model.url if whole else UNSET,
        tenants=list(model.tenants) if whole else UNSET,
        credentials=(list(sealed.headers) if sealed is not None else []) if whole else UNSET,
        created_by=model.created_by if whole else UNSET,
    )  # fmt: skip
