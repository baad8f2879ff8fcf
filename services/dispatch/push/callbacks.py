"""Where servers call back, which pushers say and gateways answer."""

from __future__ import annotations

from typing import Final

CALLBACKS: Final = "/v1/callbacks"
