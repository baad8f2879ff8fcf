"""Who a caller is, as it asks at a terminal."""

from __future__ import annotations

import pytest

from tests.cli.site import Site

pytestmark = pytest.mark.system


def test_whoami_says_whom_the_token_stands_for(site: Site) -> None:
    found = site.json("whoami")
    assert found["identified_by"] == "token"
    assert "admin" in found["roles"]
    shown = site.run("whoami")
    assert shown.returncode == 0, shown.stderr
    assert found["actor"] in shown.stdout
    assert site.run("whoami", SWITCHYARD_TOKEN="nobody").returncode != 0
