"""Encryption of the embedded broker's disk, by a key that is kept elsewhere.

It uses ChaCha20-Poly1305, and takes up streams that were stored before it had a key. One that
is started with another key, or none, does not know its own streams (tried on nats-server 2.15.1), and whoever
then makes them again has lost the old ones. So what stands for the key is kept with them, and compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from pathlib import Path
from typing import Final

from switchyard.services.broker.server.files import BrokerError, Files

SHORTEST: Final = 32
VARIABLE: Final = "NATS_STORE_KEY"
"""In the environment of the broker alone."""
MARK: Final = b"switchyard broker"


def key_of(key: str | None, file: Path | None) -> str | None:
    """The key that settings name; None for no encryption.

    Args:
        key: itself.
        file: where it stands on one line, readable by its owner alone.

    Raises:
        BrokerError: both are given, the file cannot be used, or the key is short.
    """
    name = "SWITCHYARD_BROKER_KEY"
    if file is not None:
        name += "_FILE"
        if key is not None:
            raise BrokerError(
                "SWITCHYARD_BROKER_KEY and SWITCHYARD_BROKER_KEY_FILE: one of them was expected"
            )
        try:
            with file.open("rb") as opened:
                if os.fstat(opened.fileno()).st_mode & 0o077:
                    raise BrokerError(f"{name}: {file} can be read by others; chmod 600 {file}")
                key = opened.read(4096).decode().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BrokerError(f"{name}: {file} cannot be read: {error}") from None
    if key is not None and len(key) < SHORTEST:
        raise BrokerError(
            f"{name}: at least {SHORTEST} characters were expected; openssl rand -hex 32 makes one"
        )
    return key


def check_key(files: Files, key: str | None) -> None:
    """Let a broker start with the key that its data was stored with, or with its first.

    Raises:
        BrokerError: it was stored with another.
    """
    kept = ""
    with contextlib.suppress(FileNotFoundError):
        kept = files.key_mark.read_text().strip()
    mark = "" if key is None else hmac.digest(key.encode(), MARK, "sha256").hex()
    if kept and not hmac.compare_digest(kept, mark):
        what = "no key was given" if key is None else "this is another one"
        raise BrokerError(
            f"the broker's data in {files.directory} is encrypted, and {what}: "
            "SWITCHYARD_BROKER_KEY or SWITCHYARD_BROKER_KEY_FILE has to name the key that it was stored with"
        )
    if mark and not kept:
        files.write(files.key_mark, mark)


def config(key: str | None) -> str:
    """What the configuration says within `jetstream`; the key itself stands in no file."""
    return "" if key is None else f"key: ${VARIABLE}, cipher: chacha"


def environment(key: str | None) -> dict[str, str]:
    """That of the broker; in a form that its configuration cannot take for anything else than text."""
    others = {
        name: value for name, value in os.environ.items() if not name.startswith("SWITCHYARD_BROKER_KEY")
    }
    if key is not None:
        others[VARIABLE] = "k" + hashlib.sha256(key.encode()).hexdigest()
    return others
