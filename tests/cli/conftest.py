from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.site import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One `switchyard up` for all tests of a module, which keep to jobs of their own."""
    running = Site(tmp_path_factory.mktemp("site"))
    try:
        running.up()
        yield running
    finally:
        running.close()
