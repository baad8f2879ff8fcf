"""Programs that some tests need and that Python's packages do not bring."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import pytest

_PLACES: Final = (Path(__file__).parents[1] / ".tools/bin/nats", Path.home() / "go/bin/nats")

NATS: Final = shutil.which("nats") or next((str(place) for place in _PLACES if place.exists()), None)

needs_nats: Final = pytest.mark.skipif(
    NATS is None,
    reason="the nats command line is missing: `make test` builds it where Go is: apt-get install golang",
)

_UNPACKED: Final = Path(__file__).parents[1] / ".tools/nginx/usr/sbin/nginx"
NGINX: Final = (
    shutil.which("nginx")
    or shutil.which("nginx", path="/usr/sbin")
    or (str(_UNPACKED) if _UNPACKED.exists() else None)
)

needs_nginx: Final = pytest.mark.skipif(
    NGINX is None, reason="nginx is missing: `make test` unpacks it on Debian; else: apt-get install nginx"
)
