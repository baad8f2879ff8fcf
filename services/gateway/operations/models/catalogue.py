"""The catalogue of model files: written by operators, read by all who submit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from switchyard.events.encoding.json_value import check_json
from switchyard.events.errors import ConflictError, InvalidError, NotFoundError, VersionConflictError
from switchyard.events.subjects import NAME_PATTERN
from switchyard.services import clock
from switchyard.services.access.model_credentials import ModelCredentials
from switchyard.services.access.principal import Caller
from switchyard.services.access.sealing import UnreadableError
from switchyard.services.access.server_credentials import headers_of
from switchyard.services.dispatch.models.prospects import Shelf
from switchyard.services.gateway.operations.servers.request import CredentialsRequest
from switchyard.services.outbound.addresses import AddressPolicy
from switchyard.services.outbound.urls import check_resolved, endpoint_url, origins
from switchyard.services.records.models.record import MOST_TENANTS, Model, Size, path_fault
from switchyard.services.records.models.store import Found, Models
from switchyard.services.records.servers.record import Sealed
from switchyard.services.settings import Settings

SHA256: Final = r"^[0-9A-Fa-f]{64}\Z"


class ModelRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a PUT. One that says nothing of `credentials` keeps them; null removes them."""

    url: Annotated[str, Meta(min_length=1, max_length=2048)]
    sha256: Annotated[str, Meta(pattern=SHA256)]
    size_bytes: Size
    vram_mib: Annotated[int, Meta(ge=0, le=2**31)] = 0
    tenants: Annotated[
        tuple[Annotated[str, Meta(pattern=NAME_PATTERN)], ...], Meta(max_length=MOST_TENANTS)
    ] = ()
    credentials: CredentialsRequest | UnsetType | None = UNSET


class Catalogue:
    """Does what callers ask about it.

    Args:
        models: what is stored.
        credentials: seals those of requests.
        settings: which addresses may be called.
    """

    def __init__(self, models: Models, credentials: ModelCredentials, settings: Settings) -> None:
        self.models = models
        self.credentials = credentials
        self._policy = AddressPolicy(settings.server_networks or ())

    @property
    def shelf(self) -> Shelf:
        """What is known of files."""
        return Shelf(self.models.find, self.models.fetch, self.fault)

    def fault(self, found: Found) -> str:
        """Why a file cannot be fetched by anybody; "" where it can."""
        try:
            self.credentials.open(found.model)
        except UnreadableError:
            return "its credentials cannot be read with the key file of this gateway"
        return ""

    async def get(self, caller: Caller, folder: str, name: str) -> Found:
        """A file.

        Raises:
            NotFoundError: there is none, or none for the caller's tenant.
        """
        found = await self.models.get(folder, name)
        if not is_seen(found, caller.sees):
            raise NotFoundError(f"the catalogue has no {folder}/{name!r}", field="name")
        return found

    def page(self, caller: Caller, after: str, limit: int) -> tuple[list[Found], str | None]:
        """A page of the files that the caller may see, by folder and name, and the cursor of the next."""
        seen = ((_place(found), found) for found in self.models.all() if is_seen(found, caller.sees))
        left = sorted((place, found) for place, found in seen if place > after)
        page = [found for _, found in left[:limit]]
        return page, _place(page[-1]) if len(left) > limit else None

    async def put(self, caller: Caller, folder: str, name: str, asked: ModelRequest) -> tuple[Found, bool]:
        """Enter a file, or put what is asked in its place; it, and whether it is a new one.

        Raises:
            InvalidError: a field breaks a rule; code `address_not_allowed`, `credentials_needed`.
            ConflictError: another request was faster.
        """
        _check_place(folder, name)
        url = endpoint_url(asked.url, "url", self._policy)
        await check_resolved(url, "url", self._policy)
        entry = await self.models.entry(folder, name)
        assert entry is not None
        known, now = entry.value, clock.now()
        model = Model(
            folder=folder, name=name, url=url, sha256=asked.sha256.lower(), size_bytes=asked.size_bytes,
            vram_mib=asked.vram_mib, tenants=tuple(sorted({*asked.tenants})),
            credentials=self._kept(known, folder, name, url, asked.credentials),
            created_at=now if known is None else known.created_at,
            created_by=caller.actor if known is None else known.created_by, updated_at=now,
        )  # fmt: skip
        if known is not None and model == msgspec.structs.replace(known, updated_at=now):
            return Found(known, entry.revision), False  # the same again: a fetch goes on
        try:
            return await self.models.put(model, entry.revision), known is None
        except VersionConflictError:
            raise ConflictError("another request changed the model meanwhile") from None

    async def delete(self, folder: str, name: str) -> None:
        """Take a file out of the catalogue; workers that fetch it stop, and those that have it keep it.

        Raises:
            NotFoundError: there is none.
            ConflictError: another request changed it meanwhile.
        """
        await self.models.delete(await self.models.get(folder, name))

    def _kept(
        self,
        known: Model | None,
        folder: str,
        name: str,
        url: str,
        asked: CredentialsRequest | UnsetType | None,
    ) -> Sealed | None:
        """The credentials as asked for: they never go along to another origin unless given again."""
        if asked is None:
            return None
        if isinstance(asked, CredentialsRequest):
            headers = headers_of(asked.bearer, asked.headers, "credentials")
            return self.credentials.seal(folder, name, url, headers)
        if known is None or known.credentials is None:
            return None
        if origins((url,)) != origins((known.url,)):
            message = (
                "credentials: they have to be given again, or null, where the address has another origin"
            )
            raise InvalidError(message, code="credentials_needed", field="credentials")
        return known.credentials


def is_seen(found: Found, sees: Callable[[str], bool]) -> bool:
    """Whether a file is for somebody whom the caller may know of."""
    return not found.model.tenants or any(map(sees, found.model.tenants))


def _place(found: Found) -> str:
    return "/".join(found.model.key)


def _check_place(folder: str, name: str) -> None:
    for field, text in (("folder", folder), ("name", name)):
        check_json(text, field)
    fault = path_fault(folder, name)
    if fault is not None:
        raise InvalidError(f"{fault[0]}: {fault[1]} expected", field=fault[0])
