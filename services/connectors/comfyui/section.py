"""The settings of an instance: where its ComfyUI is, and how patient it is with it."""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import pydantic

from switchyard.connectors import Backend, Section

GIB: Final = 1024**3
Seconds = Annotated[float, pydantic.Field(gt=0, le=86_400, allow_inf_nan=False)]
Count = Annotated[int, pydantic.Field(ge=1)]


class ComfySection(Section):
    """The settings.

    Args:
        slots: prompts at once, those that wait in its queue among them; 1 by default.
        url: where the server is, such as `http://127.0.0.1:8188`.
        backend: what all workers that see this server call it; the host and port by default, which is this
            host's name where the address is one of loopback.
        answer_s: seconds that an answer may take.
        health_s: seconds between two looks at whether it is there.
        silent_s: seconds without any answer after which it is down.
        lost_s: seconds without any answer after which the prompts that it had are given up.
        poll_s: seconds between two looks at how a prompt stands.
        refresh_s: seconds between two looks at what nodes and models it has.
        stall_s: seconds in which nothing of a file on its way may come.
        elsewhere_s: seconds for which a job that ran out of memory here is left to others.
        embedded: `keep`: images say how they were made, as ComfyUI writes it. `strip`: they do not.
        output_bytes: what all files of a prompt may have together.
        names_bytes: what the names of nodes and models may take among the capabilities.
        reads_server_files: whether graphs may read the outputs of others, and any path of the server.
        models_dir: the server's folder of models, as this host sees it; without it nothing is fetched.
        fetch_models: whether models of the catalogue that waiting jobs need are fetched into it.
        models_limit_bytes: what all fetched models may have together; the least used ones go first.
        models_margin_bytes: what stays free on the disk.
        models_poll_s: seconds between two looks at whether one is needed.
        fetch_networks: networks whose addresses models may come from though they are not public.
    """

    url: Annotated[str, pydantic.Field(max_length=500)]
    backend: Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_.:-]{1,100}$")] | None = None
    answer_s: Seconds = 10.0
    health_s: Seconds = 2.0
    silent_s: Seconds = 7.0
    lost_s: Seconds = 60.0
    poll_s: Seconds = 2.0
    refresh_s: Seconds = 60.0
    stall_s: Seconds = 60.0
    elsewhere_s: Annotated[float, pydantic.Field(ge=0, le=3_600)] = 15.0
    embedded: Literal["keep", "strip"] = "keep"
    output_bytes: Count = 4 * GIB
    names_bytes: Count = 128 * 1024
    reads_server_files: bool = False
    models_dir: Annotated[str, pydantic.Field(min_length=1, max_length=4096)] | None = None
    fetch_models: bool = False
    models_limit_bytes: Count = 100 * GIB
    models_margin_bytes: Annotated[int, pydantic.Field(ge=0)] = 5 * GIB
    models_poll_s: Seconds = 5.0
    fetch_networks: tuple[IPv4Network | IPv6Network, ...] = ()

    @pydantic.model_validator(mode="after")
    def _knows_where(self) -> ComfySection:
        if self.fetch_models and self.models_dir is None:
            raise ValueError("fetch_models needs models_dir, the folder that models are fetched into")
        return self

    @pydantic.field_validator("models_dir")
    @classmethod
    def _is_whole_path(cls, path: str | None) -> str | None:
        if path is not None and (not path.startswith("/") or "\0" in path):
            raise ValueError("expected an absolute path")
        return path

    @pydantic.field_validator("url")
    @classmethod
    def _is_address(cls, url: str) -> str:
        parts = urlsplit(url)
        try:
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or parts.query or parts.fragment:
            raise ValueError("expected an address such as http://127.0.0.1:8188")
        return url.rstrip("/")


def place_of(url: str) -> str:
    """Host and port, as messages may show them."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def backend_of(section: ComfySection) -> Backend:
    """Which back end it is."""
    return Backend("comfyui", section.backend or name_of_place(section.url))


def name_of_place(url: str) -> str:
    """What workers call a back end at an address, of loopback by this host's name."""
    host, _, port = place_of(url).rpartition(":")
    if _is_loopback(host):
        host = socket.gethostname()
    return re.sub(r"[^A-Za-z0-9_.:-]", "_", f"{host}:{port}{urlsplit(url).path}")[:100]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
