"""The token of a timed lease: signed by the gateways, carried in a header, known to any of them."""

from __future__ import annotations

import hmac
from typing import Final

import jwt
import msgspec

from switchyard.events.errors import ForbiddenError
from switchyard.events.vocabulary.ids import Fence, JobId, WorkerId
from switchyard.services.access.jwt import TokenVerifier

HEADER: Final = "Switchyard-Lease-Token"
PURPOSE: Final = b"switchyard timed lease"
ALGORITHM: Final = "HS256"


class LeaseClaims(msgspec.Struct, frozen=True):
    """What a lease token says.

    Args:
        job: the job's id.
        fence: the sequence of the event that granted the lease.
        attempt: which attempt it is.
        worker: who holds it.
        tenant: whose job it is.
        lease_s: seconds by which a renewal prolongs it where it does not say.
        places: answers to the tokens that keep its places under limits.
    """

    job: JobId
    fence: Fence
    attempt: int
    worker: WorkerId
    tenant: str
    lease_s: float
    places: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The lease's name in URLs."""
        return lease_id(self.job, self.fence)


def lease_id(job: JobId, fence: Fence) -> str:
    """The lease's name in URLs."""
    return f"{job}.{fence}"


class LeaseTokens:
    """Signs and checks lease tokens with keys made of the gateways' secrets.

    A token of the one sort is never taken for one of the other: their keys differ.
    """

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier

    def sign(self, claims: LeaseClaims) -> str:
        """The token."""
        return jwt.encode(msgspec.to_builtins(claims), self._keys()[0], algorithm=ALGORITHM)

    def check(self, token: str | None, lease: str) -> LeaseClaims:
        """What a lease's token says.

        Args:
            token: what the header `HEADER` of a request holds.
            lease: the id of the lease that it is to be for.

        Raises:
            ForbiddenError: code `lease_token_invalid`.
        """
        if token is None:
            raise _refused(f"this needs the header {HEADER}, with what the claim answered")
        for key in self._keys():
            try:
                found = msgspec.convert(jwt.decode(token, key, algorithms=[ALGORITHM]), LeaseClaims)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, msgspec.ValidationError, UnicodeEncodeError):
                raise _refused("the lease token is malformed") from None
            if found.id != lease:
                raise _refused("the lease token is another lease's")
            return found
        raise _refused("the lease token was not signed here")

    def _keys(self) -> list[bytes]:
        return [hmac.digest(secret.encode(), PURPOSE, "sha256") for secret in self._verifier.secrets]


def _refused(message: str) -> ForbiddenError:
    return ForbiddenError(message, code="lease_token_invalid", field=HEADER)
