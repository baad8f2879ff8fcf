"""Seals what must not be read by whoever can read the broker, with a key of the data directory.

The file has one key a line, the newest first: it seals, all of them open. What is sealed is bound to where
it belongs, so that it cannot be put elsewhere. Source: AES-GCM, NIST SP 800-38D.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from switchyard.events.errors import InvalidError, SwitchyardError

KEY_FILE: Final = "server-keys"
KEY_BYTES: Final = 32
MAX_KEYS: Final = 8
NONCE_BYTES: Final = 12


class UnreadableError(SwitchyardError):
    """Something was sealed with a key that is not here, or belongs elsewhere, or was damaged."""


class Box(NamedTuple):
    """Something sealed: the name of its key, and nonce and ciphertext."""

    key: str
    data: bytes


class Sealer:
    """Seals and opens; reads the keys again when their file changes.

    Args:
        data_dir: where the file is.
    """

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / KEY_FILE
        self._keys: dict[str, bytes] = {}
        self._read_as: tuple[int, int] | None = None

    def seal(self, plain: bytes, bound: bytes) -> Box:
        """Seal with the newest key; makes the file with mode 0600 where there is none.

        Args:
            plain: what nobody is to read.
            bound: what it belongs to; opening takes the same.

        Raises:
            InvalidError: the file cannot be used.
        """
        if not self._path.exists():
            _create(self._path)
        name, key = next(iter(self._current().items()))
        nonce = secrets.token_bytes(NONCE_BYTES)
        return Box(name, nonce + AESGCM(key).encrypt(nonce, plain, bound))

    def open(self, box: Box, bound: bytes) -> bytes:
        """What was sealed.

        Raises:
            UnreadableError: its key is not here, or it is not what was sealed for this place.
        """
        try:
            key = self._current()[box.key]
            return AESGCM(key).decrypt(box.data[:NONCE_BYTES], box.data[NONCE_BYTES:], bound)
        except KeyError:
            raise UnreadableError(f"no key {box.key} is in {self._path}") from None
        except (InvalidTag, ValueError):
            raise UnreadableError("it was changed, or sealed for another place") from None
        except (InvalidError, OSError) as error:
            raise UnreadableError(str(error)) from error

    def _current(self) -> dict[str, bytes]:
        stat = self._path.stat()
        read_as = stat.st_mtime_ns, stat.st_ino
        if read_as != self._read_as:
            self._keys = {_name(key): key for key in _read(self._path)}
            self._read_as = read_as
        return self._keys


def rotate(data_dir: Path) -> int:
    """Put a new key before the others, which still open what they sealed; how many there are now.

    Raises:
        InvalidError: the file cannot be used.
    """
    path = data_dir / KEY_FILE
    kept = _read(path)[: MAX_KEYS - 1] if path.exists() else []
    _draft(path, [secrets.token_bytes(KEY_BYTES), *kept]).replace(path)
    return 1 + len(kept)


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = _draft(path, [secrets.token_bytes(KEY_BYTES)])
    try:
        os.link(draft, path)  # fails if another process was faster: then its key counts
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _draft(path: Path, keys: Sequence[bytes]) -> Path:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.writelines(f"{key.hex()}\n" for key in keys)
    return draft


def _read(path: Path) -> list[bytes]:
    if path.stat().st_mode & 0o077:
        raise InvalidError(f"{path} can be read by others; expected mode 0600 (chmod 600 {path})")
    try:
        keys = [bytes.fromhex(line) for line in path.read_text("ascii").split()][:MAX_KEYS]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise InvalidError(f"{path} must hold lines of {2 * KEY_BYTES} hex digits")
    return keys


def _name(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:8]
