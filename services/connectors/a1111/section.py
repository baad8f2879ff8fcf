"""The settings of an instance: where its server is, how it is asked, and how patiently."""

from __future__ import annotations

import base64
from typing import Annotated, Final, Literal
from urllib.parse import unquote, urlsplit

import pydantic

from switchyard.connectors import Section
from switchyard.services.connectors.comfyui.section import Count, Seconds, name_of_place

MIB: Final = 1024**2


class A1111Section(Section):
    """The settings.

    Args:
        slots: attempts at once, of which the server runs one; 1 by default.
        url: where the server is, such as `http://127.0.0.1:7860`.
        username, password: those of `--api-auth`; they may stand in the URL instead.
        backend: what results call this server; the host and port by default.
        exclusive: whether nobody else uses the server. Then work whose task the server does not know by an id
            is interrupted, too.
        embedded: `keep`: images say how they were made, and are made to where the server does not write it.
            `strip`: they do not.
        answer_s: seconds that an answer may take, other than that of the work itself.
        health_s: seconds between two looks at whether it is there.
        silent_s: seconds without any answer after which it is down.
        lost_s: seconds without any answer after which the work that it has is given up.
        poll_s: seconds between two looks at how the work stands.
        idle_s: seconds for which the server may be idle without having answered.
        stall_s: seconds without any progress after which the work is interrupted.
        refresh_s: seconds between two looks at what models it has.
        elsewhere_s: seconds for which a job that ran out of memory here is left to others.
        input_bytes: what all input files of a job may have together.
        output_bytes: what the answer may have, images among it.
        names_bytes: what the names of models and others may take among the capabilities.
    """

    url: Annotated[str, pydantic.Field(max_length=500, repr=False)]
    username: Annotated[str, pydantic.Field(max_length=200)] | None = None
    password: pydantic.SecretStr | None = None
    backend: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")] | None = None
    exclusive: bool = False
    embedded: Literal["keep", "strip"] = "keep"
    answer_s: Seconds = 10.0
    health_s: Seconds = 2.0
    silent_s: Seconds = 10.0
    lost_s: Seconds = 60.0
    poll_s: Seconds = 1.0
    idle_s: Seconds = 60.0
    stall_s: Seconds = 900.0
    refresh_s: Seconds = 60.0
    elsewhere_s: Annotated[float, pydantic.Field(ge=0, le=3_600)] = 15.0
    input_bytes: Count = 64 * MIB
    output_bytes: Count = 512 * MIB
    names_bytes: Count = 128 * 1024

    @pydantic.field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment:
            raise ValueError("expected an address such as http://127.0.0.1:7860")
        return url.rstrip("/")

    @pydantic.model_validator(mode="after")
    def _is_whole(self) -> A1111Section:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.username is not None and "@" in urlsplit(self.url).netloc:
            raise ValueError("the URL has a user, too")
        if ":" in (self.username or ""):
            raise ValueError("username: it has no colon")
        return self

    @property
    def address(self) -> str:
        """The URL without user and password."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    @property
    def authorization(self) -> str | None:
        """The header that the server is asked with; None without."""
        parts = urlsplit(self.url)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if self.username is not None and self.password is not None:
            user, password = self.username, self.password.get_secret_value()
        if not user:
            return None
        return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    @property
    def place(self) -> str:
        """What results call the server."""
        return self.backend or name_of_place(self.url)
