"""NKeys: the Ed25519 keys that NATS knows its users by, and the files that they stand in.

The broker has the public key alone. Who connects signs a nonce of the broker's, so no secret goes over the
wire.
Source: nkeys.go of nats-io/nkeys for the form of keys, and ADR-14 for that of files with a JSON Web Token.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SEED: Final = 18 << 3  # S
_USER: Final = 20 << 3  # U
_KEY_BYTES: Final = 32
_IN_FILE: Final = re.compile(r"^\s*(SU[A-Z2-7]{56})\s*$", re.MULTILINE)
_TOKEN: Final = re.compile(
    r"-+BEGIN NATS USER JWT-+\s+([A-Za-z0-9_.-]+)\s+-+END NATS USER JWT-+", re.MULTILINE
)
PUBLIC: Final = re.compile(r"U[A-Z2-7]{55}")
MAX_BYTES: Final = 64 * 1024


class NKeyError(ValueError):
    """It is no seed of a user's key."""


class Credentials(NamedTuple):
    """What a part proves to the broker who it is with.

    Args:
        seed: its key, a secret.
        token: the JSON Web Token of a user; "" where the broker's own file has the public key.
    """

    seed: str
    token: str = ""

    @property
    def public(self) -> str:
        """What the broker knows it by."""
        return public_of(self.seed)

    @property
    def inbox_prefix(self) -> str:
        """Where its answers arrive, which nobody else may listen to."""
        return inbox_prefix(self.public)

    def sign(self, nonce: str) -> bytes:
        """The answer to the broker's nonce, in base64."""
        return base64.b64encode(_private(self.seed).sign(nonce.encode()))


def inbox_prefix(public: str) -> str:
    """Where the answers to a user arrive."""
    return f"_INBOX_{public}"


def new_seed() -> str:
    """The seed of a new key of a user."""
    raw = secrets.token_bytes(_KEY_BYTES)
    head = bytes([_SEED | (_USER >> 5), (_USER & 31) << 3])
    return _with_checksum(head + raw)


def public_of(seed: str) -> str:
    """The public key of a seed.

    Raises:
        NKeyError: it is no seed of a user's key.
    """
    return _with_checksum(bytes([_USER]) + _private(seed).public_key().public_bytes_raw())


def credentials_in(text: str) -> Credentials:
    """What stands in a file: a seed alone, or a token with its seed as `nsc` writes them.

    Raises:
        NKeyError: there is no seed of a user's key in it.
    """
    seeds = _IN_FILE.findall(text)
    if len(seeds) != 1:
        raise NKeyError("one seed of a user's key (58 characters that begin with SU) was expected in it")
    token = _TOKEN.search(text)
    public_of(seeds[0])
    return Credentials(seeds[0], "" if token is None else token[1])


def _private(seed: str) -> Ed25519PrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415 - takes long to import

    try:
        whole = base64.b32decode(seed + "=" * (-len(seed) % 8))
    except (binascii.Error, ValueError):
        raise NKeyError("it is no base32") from None
    body, checksum = whole[:-2], whole[-2:]
    if len(body) != _KEY_BYTES + 2 or binascii.crc_hqx(body, 0).to_bytes(2, "little") != checksum:
        raise NKeyError("a letter of it is wrong: its checksum does not match")
    kind = (body[0] & 7) << 5 | body[1] >> 3
    if body[0] & 0xF8 != _SEED or kind != _USER:
        raise NKeyError("it is not the seed of a user")
    return ed25519.Ed25519PrivateKey.from_private_bytes(body[2:])


def _with_checksum(body: bytes) -> str:
    whole = body + binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(whole).decode().rstrip("=")
