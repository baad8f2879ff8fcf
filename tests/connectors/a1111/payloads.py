"""Payloads for tests, and instances of the connector that look often."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from switchyard.services.connectors.a1111.connector import A1111Connector
from switchyard.services.connectors.a1111.section import A1111Section


def drawn(seed: int = 5, **more: Any) -> dict[str, Any]:
    return {"task": "txt2img", "prompt": "a cat", "seed": seed, "steps": 3, "width": 64, "height": 48} | more


def slow(**more: Any) -> dict[str, Any]:
    return drawn(steps=1_000, **more)


def section(url: str, **settings: Any) -> A1111Section:
    values = {"health_s": 0.1, "poll_s": 0.05, "refresh_s": 0.3, "backend": "double", "elsewhere_s": 0.0}
    return A1111Section.model_validate({"kind": "a1111", "id": "a1111", "url": url} | values | settings)


def connector(url: str, **settings: Any) -> A1111Connector:
    return A1111Connector(section(url, **settings))


def picture(directory: Path, name: str = "in.png", size: tuple[int, int] = (20, 10)) -> Path:
    path = directory / name
    path.write_bytes(png(size))
    return path


def png(size: tuple[int, int] = (20, 10)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "PNG")
    return buffer.getvalue()
