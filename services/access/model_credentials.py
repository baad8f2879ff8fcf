"""Credentials for model files: sealed when they come, opened for a worker that fetches, never read back."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import orjson

from switchyard.services.access.sealing import Box, Sealer, UnreadableError
from switchyard.services.outbound.urls import origins
from switchyard.services.records.models.record import Model
from switchyard.services.records.servers.record import Sealed


class ModelCredentials:
    """Seals and opens them; they are bound to the file and to the origin of its address.

    Args:
        sealer: has the keys.
    """

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def seal(self, folder: str, name: str, url: str, headers: Mapping[str, str]) -> Sealed:
        """Seal the headers of a request.

        Raises:
            InvalidError: the key file cannot be used.
        """
        box = self._sealer.seal(orjson.dumps(dict(headers)), _bound(folder, name, url))
        return Sealed(box.key, box.data, tuple(sorted(headers)))

    def open(self, model: Model) -> dict[str, str]:
        """The headers that the request for a file carries.

        Raises:
            UnreadableError: they were sealed with another key, or for another place.
        """
        sealed = model.credentials
        if sealed is None:
            return {}
        plain = self._sealer.open(Box(sealed.key, sealed.data), _bound(model.folder, model.name, model.url))
        try:
            return msgspec.json.decode(plain, type=dict[str, str])
        except msgspec.DecodeError:
            raise UnreadableError("they are no headers") from None


def _bound(folder: str, name: str, url: str) -> bytes:
    return orjson.dumps(["model", folder, name, *origins((url,))])
