"""The commands of pages about single matters, as they stand there, against one Switchyard."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.site import Site
from tests.operate.blocks import Block, blocks
from tests.operate.machine import Machine

pytestmark = pytest.mark.system

SCAN = Path(__file__).parents[3] / "examples" / "fieldreport.pdf"
KEY = "0123456789abcdef"


@pytest.fixture
def machine(site: Site, tmp_path: Path) -> Iterator[Machine]:
    """A directory with the document of the pages, and the variables that they name."""
    if shutil.which("curl") is None:
        pytest.skip("curl is missing: apt-get install curl")
    url, token = site.connection["url"], site.connection["token"]
    made = Machine(
        tmp_path, SWITCHYARD_URL=url, SWITCHYARD_TOKEN=token, URL=url, AUTH=f"Authorization: Bearer {token}",
        SWITCHYARD_DATA_DIR=str(site.data_dir),
    )  # fmt: skip
    shutil.copy(SCAN, tmp_path / "scan.pdf")
    yield made
    made.close()


def commands(page: str) -> list[Block]:
    """The blocks of a page that somebody types."""
    found = [block for block in blocks(page) if re.match(r"(switchyard|curl|cat) ", block.text)]
    assert found, page
    return found


def answer(text: str) -> dict[str, object]:
    """The one JSON object of an answer, which is no refusal."""
    found: dict[str, object] = json.loads(text)
    assert "status" not in found, found
    return found


def test_a_token_and_keys_are_made_listed_renewed_and_taken_back(machine: Machine) -> None:
    token, keys = commands("access")
    assert machine.run(token.text).startswith("eyJ")
    lines = keys.text.replace("\\\n", "").splitlines()
    assert [line.split()[2] for line in lines] == ["create", "list", "rotate", "revoke"]
    key = json.loads(machine.run(f"{lines[0]} --json"))["id"]
    assert key in machine.run(lines[1])
    assert f"swy_{key}_" in machine.run(lines[2].replace(KEY, key))
    assert machine.run(lines[3].replace(KEY, key)) == f"revoked {key}\n"


def test_a_job_that_can_be_erased_is_made_and_erased(machine: Machine) -> None:
    (block,) = commands("erasure")
    store, submit, by_command, erase = block.text.splitlines()
    file = answer(machine.run(store.replace("curl", "curl -s")))["id"]
    job = answer(machine.run(submit.replace("curl", "curl -s").replace('"..."', f'"{file}"')))["id"]
    assert machine.run(by_command).strip()
    machine.run(f"switchyard result {job} --wait")
    gone = answer(machine.run(erase.replace("curl", "curl -s"), ID=str(job)))
    assert (gone["state"], gone["result"]) == ("archived", None)


def test_a_file_is_stored_and_an_upload_that_ended_is_not_sent_again(machine: Machine) -> None:
    (block,) = commands("uploads")
    first, again = (line.partition("#")[0] for line in block.text.splitlines())
    file = machine.run(first).strip()
    url = f"{machine.environment['URL']}/v1/uploads/{file}"
    assert machine.run(again.replace("URL", url)).strip() == file


def test_what_was_used_is_shown_and_priced(machine: Machine) -> None:
    shown, prices = commands("usage")
    machine.run(shown.text)
    assert (machine.directory / "keys.csv").read_text().startswith("key,unit,")
    text = prices.text.replace("curl", "curl -s").replace("2026-02-01", "2999-02-01")
    version = answer(machine.run(text))
    assert (version["start"], version["in_force"]) == ("2999-02-01", False)
    machine.run("switchyard prices remove 2999-02-01")


def test_how_long_jobs_are_kept_is_set(machine: Machine) -> None:
    (block,) = commands("retention")
    for line in block.text.replace("\\\n", "").splitlines():
        assert answer(machine.run(line.replace("curl", "curl -s")))["keep_s"]


def test_a_batch_is_made_of_lines_and_its_results_are_read(machine: Machine) -> None:
    (block,) = commands("batches")
    *lines, submit, results = block.text.splitlines()
    file = machine.run("switchyard upload scan.pdf").strip()
    first, second = dict.fromkeys(re.findall(r'"file": "([^"]+)"', block.text))
    machine.run("\n".join(lines).replace(first, file).replace(second, file))
    batch = json.loads(machine.run(f"{submit} --json"))
    assert batch["state"] == "completed"
    (named,) = re.findall(r"results (\S+) ", results)
    machine.run(results.replace(named, batch["id"]))
    found = [json.loads(line) for line in (machine.directory / "results.jsonl").read_text().splitlines()]
    assert [one["custom_id"] for one in found] == ["a-1", "a-2"]
    assert "Kestrel" in found[1]["result"]["markdown"]
