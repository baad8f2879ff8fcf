"""Whose jobs a worker over REST asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from switchyard.errors import InvalidValueError


def served(tenant: str | None, tenants: Sequence[str], excluded: Sequence[str]) -> dict[str, Any]:
    """What claims say of whose jobs they are for; the gateway checks it."""
    for field, names in (("tenants", tenants), ("exclude_tenants", excluded)):
        if isinstance(names, str):
            raise InvalidValueError(f"{field}: expected names, not one string", field=field)
    named = [*tenants] if tenant is None else [tenant, *tenants]
    served: dict[str, Any] = {"tenants": named} if len(named) > 1 else {}
    if len(named) == 1:
        served["tenant"] = named[0]
    return served | ({"exclude_tenants": [*excluded]} if excluded else {})
