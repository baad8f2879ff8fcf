"""The settings of a converter, and of the engines that it may use beside its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

import pydantic

from switchyard.services.connectors.convert.payload import MAX_PAGES, EngineName
from switchyard.services.connectors.sections import InProcesses

TIMEOUT_S: Final = 3_600.0  # 1,000 scanned pages at 3 s each, and some
MIB: Final = 1024**2
KEY_BYTES: Final = 4_096
MISTRAL_KEY: Final = "MISTRAL_API_KEY"
DOCLING_KEY: Final = "DOCLING_API_KEY"

Seconds = Annotated[float, pydantic.Field(gt=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, pydantic.Field(ge=1)]


class RemoteSection(pydantic.BaseModel):
    """What the sections of engines elsewhere have in common.

    Args:
        url: where the engine is.
        api_key: what it is asked with; it is never shown.
        key_file: a file that holds the key instead.
        answer_s: seconds that the answer to one call may take.
        retry_s: seconds before a call that failed is made again; twice as many before the third.
        wait_s: seconds for which a part of a document waits where the engine asks for that; beyond, and for
            the first part, the job goes back to its queue.
        answer_bytes: what the answer to one call may have, images among it.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")

    url: Annotated[str, pydantic.Field(max_length=500)]
    api_key: pydantic.SecretStr | None = None
    key_file: Path | None = None
    answer_s: Seconds = 600.0
    retry_s: Seconds = 2.0
    wait_s: Annotated[float, pydantic.Field(ge=0, le=3_600)] = 60.0
    answer_bytes: Count = 256 * MIB

    @pydantic.field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError("expected an address such as https://ocr.example.com, without user and password")
        return url.rstrip("/")

    @pydantic.model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if self.api_key is not None and self.key_file is not None:
            raise ValueError("api_key and key_file: one of them is enough")
        return self

    def key(self, variable: str) -> str:
        """The key: as the section says it, else that of an environment variable; "" for none.

        Raises:
            ValueError: the file cannot be read, or the key is none that a header can hold.
        """
        if self.key_file is not None:
            try:
                with self.key_file.open("rb") as file:
                    key = file.read(KEY_BYTES).decode().strip()
            except (OSError, UnicodeError):
                raise ValueError(f"key_file: {self.key_file} cannot be read as a key") from None
        elif self.api_key is not None:
            key = self.api_key.get_secret_value().strip()
        else:
            key = os.environ.get(variable, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise ValueError("the key has characters that no key has")
        return key


class MistralSection(RemoteSection):
    """How Mistral's OCR is asked.

    Args:
        model: which one reads.
        max_bytes: what a document, or a part of a PDF, may have in one call.
        max_pages: likewise.
        inline_bytes: a document of at most so many is sent within the call, a larger one as a file.
        batch: whether documents go by the batch API, which is cheaper and takes hours: those of jobs that ask
            for it, all, or none.
        batch_poll_s: seconds between the first two looks at a batch; ten times as many later.
        batch_hours: how long a batch may take.
        batch_tries: how often it is tried to start one.
    """

    url: Annotated[str, pydantic.Field(max_length=500)] = "https://api.mistral.ai"
    model: Annotated[str, pydantic.Field(min_length=1, max_length=200)] = "mistral-ocr-latest"
    max_bytes: Annotated[int, pydantic.Field(ge=1, le=512_000_000)] = 50_000_000
    max_pages: Annotated[int, pydantic.Field(ge=1, le=10_000)] = 1_000
    inline_bytes: Annotated[int, pydantic.Field(ge=0, le=50_000_000)] = 4 * MIB
    batch: Literal["asked", "always", "never"] = "asked"
    batch_poll_s: Seconds = 10.0
    batch_hours: Annotated[int, pydantic.Field(ge=1, le=168)] = 24
    batch_tries: Annotated[int, pydantic.Field(ge=1, le=100)] = 3

    def in_batch(self, *, asked: bool | None) -> bool:
        """Whether a document takes the batch API.

        Args:
            asked: what its job says.
        """
        return self.batch != "never" and (asked if asked is not None else self.batch == "always")


class DoclingSection(RemoteSection):
    """How a docling-serve is asked.

    Args:
        poll_s: seconds between two looks at whether a document is done.
        options: others of its options, which go with each document.
    """

    poll_s: Seconds = 1.0
    options: Annotated[dict[str, str | int | float | bool | list[str]], pydantic.Field(max_length=50)] = {}


class ConvertSection(InProcesses):
    """The settings of a converter.

    Args:
        timeout_s: for one document.
        engines: which engines it has, in the order in which a job that names none meets them.
        engine_failures: how often in a row an engine fails before it is left alone for a while.
        engine_pause_s: seconds for which it is left alone first; twice as long each time, up to 16 times.
        split_over: a PDF of more pages is converted in parts by all workers; 0 for none.
        part_pages: the most of a part.
    """

    timeout_s: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] = TIMEOUT_S
    engines: list[EngineName] = pydantic.Field(default=["local"], min_length=1)
    engine_failures: Annotated[int, pydantic.Field(ge=1, le=100)] = 3
    engine_pause_s: Seconds = 30.0
    split_over: Annotated[int, pydantic.Field(ge=0, le=MAX_PAGES)] = 40
    part_pages: Annotated[int, pydantic.Field(ge=1, le=MAX_PAGES)] = 20
    mistral: MistralSection | None = None
    docling: DoclingSection | None = None

    @pydantic.model_validator(mode="before")
    @classmethod
    def _mistral_needs_only_a_key(cls, said: Any) -> Any:
        engines = said.get("engines") if isinstance(said, dict) else None
        if isinstance(engines, list) and "mistral" in engines and said.get("mistral") is None:
            return {**said, "mistral": {}}
        return said

    @pydantic.model_validator(mode="after")
    def _has_what_its_engines_need(self) -> Self:
        if len(set(self.engines)) < len(self.engines):
            raise ValueError("engines: one stands there twice")
        if "mistral" in self.engines and not (self.mistral and self.mistral.key(MISTRAL_KEY)):
            raise ValueError(f"engines: mistral needs mistral.api_key, mistral.key_file or {MISTRAL_KEY}")
        if "docling" in self.engines:
            if self.docling is None:
                raise ValueError("engines: docling needs docling.url")
            self.docling.key(DOCLING_KEY)
        return self
