"""Keys of an Ilios, which had them in a variable: each becomes an API key when a gateway starts."""

from __future__ import annotations

from typing import Final

import structlog
from aiohttp import web

from switchyard.events.errors import ConflictError, InvalidError
from switchyard.services import clock
from switchyard.services.access.api_keys import check_foreign
from switchyard.services.access.principal import Role
from switchyard.services.gateway.app_keys import API_KEYS, SETTINGS
from switchyard.services.records.keys import KeyRecord

log = structlog.get_logger()

ACTOR: Final = "gateway"


async def offer(app: web.Application) -> None:
    """Make API keys of the settings' keys, those that are keys already left as they are.

    Raises:
        InvalidError: one of them cannot be a key, or can be guessed.
        LimitError: its tenant has as many keys as it may.
        UnavailableError: the broker does not answer.
    """
    settings, keys = app[SETTINGS], app[API_KEYS]
    if not settings.ilios or settings.ilios_keys is None:
        return
    found = [one.strip() for one in settings.ilios_keys.get_secret_value().split(",")]
    for number, secret in enumerate((one for one in found if one), 1):
        try:
            check_foreign(secret, short_allowed=settings.short_keys)
        except InvalidError as error:
            message = f"ilios_keys, or API_KEY: number {number} cannot be used: {error.message}"
            raise InvalidError(message, code=error.code) from None
        if await keys.find(secret) is not None:
            continue
        record = KeyRecord(
            id="0" * 16, tenant=settings.ilios_tenant, name=f"ilios-{number}", roles=(Role.SUBMITTER.value,),
            secrets=(), created_at=clock.now(), created_by=ACTOR,
        )  # fmt: skip
        try:
            made, _ = await keys.create(record, foreign=secret)
        except ConflictError:
            continue  # another gateway was faster
        log.info("ilios_key_made", key=made.id, tenant=made.tenant)
