"""What the client's page shows runs as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.site import COMMAND_S, Site

pytestmark = pytest.mark.system

PAGE = (Path(__file__).parents[3] / "docs/client.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SAID = (
    ["hello", "has no result, it is dead"],
    ["submitted", "leased", "33%", "succeeded"],
    ["0 jobs wait"],
    ["submitted by key ", "['nightly import']"],
    ["2999-01-01 False", "[('pages', '0', 1000)]", " micro-cents"],
)


def test_the_page_has_the_examples_that_are_run() -> None:
    assert len(EXAMPLES) == len(SAID)


@pytest.mark.parametrize("number", range(len(SAID)))
def test_an_example_runs_where_switchyard_runs(site: Site, number: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EXAMPLES[number]],
        cwd=site.directory, env=site.environment, capture_output=True, text=True,
        timeout=COMMAND_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for text in SAID[number]:
        assert text in done.stdout
