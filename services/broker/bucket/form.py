"""How the entries of a bucket stand in its stream: subjects, values, and how it is said that one is gone.

Source: ADR-8 (key-value stores) and ADR-48 (markers of what has expired).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Literal, NamedTuple, TypeVar

import msgspec

from switchyard.events import subjects
from switchyard.services.broker.reader import Stored

T = TypeVar("T")

Key = tuple[str, ...]

OPERATION: Final = "KV-Operation"
EXPIRED: Final = "Nats-Marker-Reason"
MAX_KEY_BYTES: Final = 1024
PLAIN: Final = re.compile(r"[A-Za-z0-9_-]+")
PLAIN_DOTTED: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
ESCAPE: Final = "="
"""What stands before the two hex digits of a byte that no key may hold; alone, it is an empty part."""


class Gone(NamedTuple):
    """How it is said that an entry was deleted.

    Args:
        operation: the word of the key-value stores of NATS for it.
        rolls_up: whether the broker then drops what stood there before.
        ttl_s: seconds after which the marker itself goes; None for never. By then everybody has to know.
    """

    operation: Literal["DEL", "PURGE"]
    rolls_up: bool = False
    ttl_s: int | None = None

    def headers(self) -> dict[str, str]:
        """Those of the marker."""
        headers: dict[str, str] = {OPERATION: self.operation}
        if self.rolls_up:
            headers[subjects.H_ROLLUP] = "sub"
        if self.ttl_s is not None:
            headers[subjects.H_TTL] = f"{self.ttl_s}s"
        return headers


class Entry(NamedTuple, Generic[T]):
    """What stands under a key.

    Args:
        key: its parts.
        value: None for nothing: never written, deleted, expired, or not to be read.
        revision: what the next write has to name; 0 where nothing stands.
        is_unreadable: whether something stands there that is none of the bucket's entries.
        size_bytes: that of its value as stored.
    """

    key: Key
    value: T | None
    revision: int
    is_unreadable: bool = False
    size_bytes: int = 0


class Codec(NamedTuple, Generic[T]):
    """How values stand in messages.

    Args:
        encode: makes a value's bytes.
        decode: makes a value of bytes, or raises a `ValueError` or `TypeError`.
    """

    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


DELETED: Final = Gone("DEL")


def any_key(_key: Key) -> None:
    """Every key is one."""


def any_value(_key: Key, _value: object) -> None:
    """Every value may stand under every key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form(Generic[T]):
    """What a bucket holds.

    Args:
        name: that of the bucket.
        parts: names of a key's parts, for error messages; their number counts.
        values: how they stand there.
        under: what stands before the parts, where several forms share a bucket.
        is_dotted: whether the last part stands as it is with dots in it, as several words of a subject.
        check: is given every key that is read or written; a `ValueError` says that it is none.
        belongs: is given every key and value that is read; a `ValueError` says that they do not go together.
        gone: how a deletion is written.
        max_bytes: that of a value; a larger one is refused, and not read.
    """

    name: str
    parts: tuple[str, ...]
    values: Codec[T]
    under: Key = ()
    is_dotted: bool = False
    check: Callable[[Key], object] = any_key
    belongs: Callable[[Key, T], object] = any_value
    gone: Gone = DELETED
    max_bytes: int | None = None

    @property
    def stream(self) -> str:
        """The stream that the bucket is."""
        return f"KV_{self.name}"

    # --- Keys

    @property
    def _prefix(self) -> str:
        return ".".join(("$KV", self.name, *self.under, ""))

    def subject(self, key: str | Key) -> str:
        """Where an entry stands.

        Raises:
            ValueError: it is no key of this bucket.
        """
        parts = whole(key)
        if len(parts) != len(self.parts):
            raise ValueError(f"a key of {', '.join(self.parts)} was expected, not {len(parts)} parts")
        self.check(parts)
        *first, last = parts
        words = [*map(escaped, first), escaped(last, dotted=self.is_dotted)]
        subject = self._prefix + ".".join(words)
        if len(subject) > MAX_KEY_BYTES:
            raise ValueError(f"a key of at most {MAX_KEY_BYTES} bytes was expected, not {len(subject)}")
        return subject

    def filter(self, *share: str) -> str:
        """The subjects of the entries whose keys begin with these parts; of all, without any."""
        if len(share) == len(self.parts):
            return self.subject(share)
        return "".join((self._prefix, *(f"{escaped(part)}." for part in share), ">"))

    def key_of(self, subject: str) -> Key:
        """The key of a subject.

        Raises:
            ValueError: no entry stands there.
        """
        if not subject.startswith(self._prefix):
            raise ValueError(f"a subject under {self._prefix} was expected")
        words = subject[len(self._prefix) :].split(".", len(self.parts) - 1 if self.is_dotted else -1)
        if len(words) != len(self.parts):
            raise ValueError(f"a key of {', '.join(self.parts)} was expected")
        *first, last = words
        key = (*map(unescaped, first), unescaped(last, dotted=self.is_dotted))
        if self.subject(key) != subject:  # a stranger's; the key would be written elsewhere
            raise ValueError("a key that is spelled otherwise was expected")
        return key

    def find_key(self, subject: str) -> Key | None:
        """The key of a subject; None where no entry stands."""
        try:
            return self.key_of(subject)
        except ValueError:
            return None

    # --- Values

    def entry_of(self, message: Stored) -> Entry[T]:
        """What stands in a message of the bucket.

        Raises:
            ValueError, TypeError: no key, or no value.
        """
        key, data = self.key_of(message.subject), message.data
        if is_gone(message.headers, data):
            return Entry(key, None, message.seq)
        self.fits(data)
        value = self.values.decode(data)
        self.belongs(key, value)
        return Entry(key, value, message.seq, size_bytes=len(data))

    def fits(self, data: bytes) -> None:
        """Refuse a value that is too large.

        Raises:
            ValueError: it is.
        """
        if self.max_bytes is not None and len(data) > self.max_bytes:
            raise ValueError(f"at most {self.max_bytes} bytes were expected, not {len(data)}")


def json_values(value: type[T], *, order: Literal["deterministic"] | None = None) -> Codec[T]:
    """Values that stand as JSON.

    Args:
        value: their type, as msgspec knows it.
        order: that of the fields of an object, for values that are compared as bytes.
    """
    return Codec(msgspec.json.Encoder(order=order).encode, msgspec.json.Decoder(value).decode)


class Lasting(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value that keeps what it does not know.

    Args:
        beyond: fields of newer versions, as they came.
    """

    beyond: dict[str, msgspec.Raw] = {}


L = TypeVar("L", bound=Lasting)


def lasting_values(value: type[L]) -> Codec[L]:
    """Values that stand as JSON; fields that are none of theirs are written back as they came."""
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder(value)
    fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
    ours = frozenset(field.encode_name for field in msgspec.structs.fields(value))

    def encode(one: L) -> bytes:
        if not one.beyond:
            return encoder.encode(one)
        known = fields.decode(encoder.encode(msgspec.structs.replace(one, beyond={})))
        return encoder.encode({**one.beyond, **known})

    def decode(data: bytes) -> L:
        one = decoder.decode(data)
        beyond = {name: found.copy() for name, found in fields.decode(data).items() if name not in ours}
        if beyond == one.beyond:
            return one
        found: L = msgspec.structs.replace(one, beyond=beyond)
        return found

    return Codec(encode, decode)


def whole(key: str | Key) -> Key:
    """A key as its parts; a text is one of one part."""
    return (key,) if isinstance(key, str) else key


def is_gone(headers: Mapping[str, str], data: bytes) -> bool:
    """Whether a message says that the entry was deleted or has expired."""
    return not data or EXPIRED in headers or OPERATION in headers


def escaped(part: str, *, dotted: bool = False) -> str:
    """A part of a key as it stands in a subject: what may not stand there by its bytes in hex."""
    if (PLAIN_DOTTED if dotted else PLAIN).fullmatch(part):
        return part
    raw = part.encode("utf-8", "surrogatepass")
    return "".join(chr(byte) if PLAIN.match(chr(byte)) else f"{ESCAPE}{byte:02X}" for byte in raw) or ESCAPE


def unescaped(word: str, *, dotted: bool = False) -> str:
    """The part of a key that stands so in a subject.

    Raises:
        ValueError: none does.
    """
    if (PLAIN_DOTTED if dotted else PLAIN).fullmatch(word):
        return word
    first, *others = word.split(ESCAPE)
    try:
        raw = first.encode("ascii") + b"".join(
            bytes.fromhex(other[:2]) + other[2:].encode("ascii") for other in others if word != ESCAPE
        )
        part = raw.decode("utf-8", "surrogatepass")
    except ValueError:
        raise ValueError("a part of a key was expected") from None
    if escaped(part, dotted=dotted) != word:
        raise ValueError("a part of a key was expected")
    return part
