"""The token in an address by which one file comes or goes, whoever has the address: signed by the gateways.

A client is given the URL and nothing else, as with the signed addresses of S3. It opens one file for one
method, and ends.
"""

from __future__ import annotations

import hmac
from typing import Final, Literal

import jwt
import msgspec

from switchyard.events.errors import ForbiddenError
from switchyard.services import clock
from switchyard.services.access.browsers.standing import Holder
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.access.lease_tickets import ALGORITHM

PURPOSE: Final = b"switchyard address of a file"


class FileTicketError(ForbiddenError):
    """An address that is malformed, was changed, has expired, or is for something else."""

    code = "address_invalid"


class FileTicketExpiredError(FileTicketError):
    """An address whose time is over."""

    code = "address_expired"


class FileClaims(msgspec.Struct, frozen=True):
    """What an address opens.

    Args:
        tenant: whose the file is.
        file: its id.
        method: what may be done with it.
        until: when the address ends, in seconds since 1970.
        type: the media type of what comes.
        days: for how long what comes is kept.
        key: the id of the API key by which it comes, or "".
        holder: who was given it; None where it counts whatever becomes of that.
    """

    tenant: str
    file: str
    method: Literal["GET", "PUT"]
    until: float
    type: str = ""
    days: int = 0
    key: str = ""
    holder: Holder | None = None


class FileTickets:
    """Signs and checks them with keys made of the gateways' secrets, which sign nothing else."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    def sign(self, claims: FileClaims) -> str:
        """The token."""
        said = {name: value for name, value in msgspec.to_builtins(claims).items() if value is not None}
        return jwt.encode(said, self._keys()[0], algorithm=ALGORITHM)

    def check(self, token: str, *, file: str, method: str) -> FileClaims:
        """What a token says, if it is for this file and method and has not expired.

        Raises:
            FileTicketError: it is not.
        """
        claims = self._opened(token)
        if claims.until <= clock.time_s():
            raise FileTicketExpiredError("the address has expired")
        if (claims.file, claims.method) != (file, method):
            raise FileTicketError("the address is for another file or method")
        return claims

    def _opened(self, token: str) -> FileClaims:
        for key in self._keys():
            try:
                return msgspec.convert(jwt.decode(token, key, algorithms=[ALGORITHM]), FileClaims)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeEncodeError):
                raise FileTicketError("the address is malformed") from None
        raise FileTicketError("the address was not signed here, or was changed")

    def _keys(self) -> list[bytes]:
        return [hmac.digest(secret.encode(), PURPOSE, "sha256") for secret in self._verifier.secrets]
