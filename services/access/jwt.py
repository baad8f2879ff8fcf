"""Tokens: JSON Web Tokens (RFC 7519), signed with a secret of the data directory or by an outside key.

Every key belongs to one algorithm, and a token is only checked with the keys of the algorithm it names
(RFC 8725, section 3.1): a public key never serves as an HMAC secret.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from switchyard.events.errors import InvalidError
from switchyard.events.subjects import NAME
from switchyard.services import clock
from switchyard.services.access.errors import UnauthenticatedError
from switchyard.services.ids import new_id

SECRET_FILE: Final = "secret"  # noqa: S105 - the name of a file
SECRET_BYTES: Final = 32
MAX_SECRETS: Final = 2
RELOAD_S: Final = 2.0
MIN_RSA_BITS: Final = 2048

RoleName = Literal[
    "viewer", "submitter", "worker", "reviewer", "tenant-admin", "operator", "registrar", "admin"
]
# A subject stands in a header of every event it causes, so it holds nothing that could end one.
Subject = Annotated[str, msgspec.Meta(pattern=r"^[\x21-\x7e]{1,128}\Z")]
Timestamp = Annotated[float, msgspec.Meta(ge=0, lt=253_402_300_800)]  # up to the year 9999
TokenId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,128}\Z")]


class Claims(msgspec.Struct, frozen=True):
    """What a token must say."""

    sub: Subject
    tenant: Annotated[str, msgspec.Meta(pattern=rf"^{NAME.pattern}\Z")]
    roles: Annotated[tuple[RoleName, ...], msgspec.Meta(min_length=1)]
    jti: TokenId
    exp: Timestamp
    nbf: Timestamp = 0.0


def load_or_create_secrets(data_dir: Path) -> tuple[str, ...]:
    """The signing secrets, newest first; makes the file with mode 0600 at the first call.

    Raises:
        InvalidError: others may read the file, or a line of it is too short.
    """
    path = data_dir / SECRET_FILE
    if not path.exists():
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = _draft(path, [secrets.token_urlsafe(SECRET_BYTES)])
        try:
            os.link(draft, path)  # fails if another process was faster: then its secret counts
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return _read(path)


def rotate_secrets(data_dir: Path) -> tuple[str, ...]:
    """Make a new signing secret; the one before still verifies, older ones do not. Gateways follow in 2 s."""
    path = data_dir / SECRET_FILE
    kept = load_or_create_secrets(data_dir)[: MAX_SECRETS - 1]
    _draft(path, [secrets.token_urlsafe(SECRET_BYTES), *kept]).replace(path)
    return _read(path)


def _draft(path: Path, lines: Sequence[str]) -> Path:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.writelines(f"{line}\n" for line in lines)
    return draft


def _read(path: Path) -> tuple[str, ...]:
    if path.stat().st_mode & 0o077:
        raise InvalidError(f"{path} can be read by others; expected mode 0600 (chmod 600 {path})")
    found = tuple(path.read_text("ascii").split())[:MAX_SECRETS]
    if not found or any(len(line) < SECRET_BYTES for line in found):
        raise InvalidError(f"{path} must hold one or two lines of at least {SECRET_BYTES} characters")
    return found


def mint(secret: str, *, tenant: str, roles: Sequence[str], ttl_s: float, subject: str = "user") -> str:
    """A token that `secret` signs, valid for `ttl_s` seconds from now.

    Raises:
        InvalidError: a claim breaks a rule.
    """
    now = clock.time_s()
    claims = {
        "sub": subject,
        "tenant": tenant,
        "roles": list(roles),
        "jti": new_id(),
        "iat": int(now),
        "exp": math.ceil(now + ttl_s),
    }
    try:
        msgspec.convert(claims, Claims, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidError(f"no such token can be made: {error}") from None
    return jwt.encode(claims, secret, algorithm="HS256")


class TokenVerifier:
    """Checks signature and claims.

    Args:
        data_dir: where the secrets are; they are read again when the file changes.
        public_keys: PEM files of outside signers: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA).
        issuer: the `iss` that tokens must have, if any.
        audience: the `aud` that tokens must have, if any.

    Raises:
        InvalidError: the secrets or a key cannot be used.
    """

    def __init__(
        self, data_dir: Path, public_keys: Sequence[Path] = (), *, issuer: str | None, audience: str | None
    ) -> None:
        self._file = data_dir / SECRET_FILE
        self._issuer = issuer
        self._audience = audience
        self._keys: dict[str, list[Any]] = {"HS256": list(load_or_create_secrets(data_dir))}
        for path in public_keys:
            algorithm, key = _public_key(path)
            self._keys.setdefault(algorithm, []).append(key)
        self._version = self._file.stat().st_mtime_ns
        self._looked_at = time.monotonic()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The signing secrets, newest first."""
        return tuple(self._keys["HS256"])

    def reload(self) -> bool:
        """Read the secrets again if their file has changed; looks every 2 s. Whether it has."""
        now = time.monotonic()
        if now - self._looked_at < RELOAD_S:
            return False
        self._looked_at = now
        try:
            version = self._file.stat().st_mtime_ns
            if version == self._version:
                return False
            self._keys["HS256"] = list(_read(self._file))
        except (OSError, InvalidError):
            return False  # a file that went away or was spoilt changes nothing while we run
        self._version = version
        return True

    def verify(self, token: str) -> Claims:
        """The token's claims.

        Raises:
            UnauthenticatedError: codes token_invalid and token_expired.
        """
        try:
            algorithm = jwt.get_unverified_header(token).get("alg")
        except (jwt.InvalidTokenError, UnicodeEncodeError):
            raise UnauthenticatedError("the token is not a JSON Web Token") from None
        keys = self._keys.get(algorithm, []) if isinstance(algorithm, str) else []
        for key in keys:
            try:
                found = jwt.decode(
                    token, key, algorithms=[str(algorithm)], issuer=self._issuer, audience=self._audience,
                    # A signer's clock a little ahead of ours does no harm.
                    options={
                        "require": ["exp", "jti", "sub"],
                        "verify_iat": False, "verify_exp": False, "verify_nbf": False,
                    },
                )  # fmt: skip
                claims = msgspec.convert(found, Claims, strict=False)
            except jwt.InvalidSignatureError:
                continue
            except (jwt.InvalidTokenError, msgspec.ValidationError) as error:
                raise UnauthenticatedError(f"the token cannot be used: {error}") from None
            _check_time(claims)
            return claims
        raise UnauthenticatedError("the token's signature is not that of a key known here")


def _check_time(claims: Claims) -> None:
    """Refuse a token outside of its time, by the broker's clock.

    Raises:
        UnauthenticatedError: codes token_invalid and token_expired.
    """
    now = clock.time_s()
    if not claims.exp > now:  # which is also no number's case
        raise UnauthenticatedError("the token has expired", code="token_expired")
    if not claims.nbf <= now:
        raise UnauthenticatedError("the token cannot be used: it is not yet valid (nbf)")


def _public_key(path: Path) -> tuple[str, Any]:
    """A key and the one algorithm that it serves."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidError(f"{path} is not a public key in PEM form: {error}") from None
    match key:
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return "RS256", key
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return "ES256", key
        case ed25519.Ed25519PublicKey():
            return "EdDSA", key
        case _:
            raise InvalidError(
                f"{path}: expected an RSA key of at least {MIN_RSA_BITS} bits, a P-256 or an Ed25519 key"
            )
