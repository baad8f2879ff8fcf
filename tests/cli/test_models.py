"""The catalogue of model files as an operator types it."""

from __future__ import annotations

import json

import pytest

from tests.cli.site import Site

pytestmark = pytest.mark.system

WISH = ("--url", "http://127.0.0.1:8000/x", "--sha256", "ab" * 32, "--size-bytes", "6900000000")


def test_models_are_entered_listed_brought_over_and_removed(site: Site) -> None:
    put = site.run("models", "put", "checkpoints/sd15/x.safetensors", *WISH, "--for-tenant", "default")
    assert put.returncode == 0, put.stderr
    shown = site.json("models", "show", "checkpoints/sd15/x.safetensors")
    assert (shown["folder"], shown["name"], shown["tenants"]) == (
        "checkpoints", "sd15/x.safetensors", ["default"],
    )  # fmt: skip
    listed = site.json("models", "list")
    assert [one["size_bytes"] for one in listed["models"]] == [6_900_000_000]
    assert site.run("models", "remove", "checkpoints/sd15/x.safetensors").returncode == 0
    file = site.directory / "models.json"
    file.write_text(json.dumps(listed))
    brought = site.run("models", "import", str(file))
    assert brought.stdout == "entered checkpoints/sd15/x.safetensors\n", brought.stderr
    (again,) = site.json("models", "list")["models"]
    assert (again["url"], again["sha256"]) == (shown["url"], shown["sha256"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("put", "x.safetensors", *WISH), "FOLDER/NAME"),
        (("put", "loras/../x.safetensors", *WISH), "name"),
        (("put", "loras/x.safetensors", *WISH, "--bearer", "secret"), "standard input"),
        (("show", "loras/nothing.safetensors"), "the catalogue has no"),
        (("remove", "loras/nothing.safetensors"), "the catalogue has no"),
        (("import", "/dev/null"), "JSON"),
    ],
)
def test_what_cannot_be_done_is_said(site: Site, arguments: tuple[str, ...], said: str) -> None:
    found = site.run("models", *arguments)
    assert found.returncode != 0
    assert said in found.stderr
    assert "Traceback" not in found.stderr
