"""Prices and quotas as an operator types them."""

from __future__ import annotations

import json

import pytest

from tests.cli.site import Site

pytestmark = pytest.mark.system

LATER = "2999-01-01"
KEY = "0123456789abcdef"


def test_prices_are_set_listed_shown_and_taken_back(site: Site) -> None:
    made = site.json(
        "prices", "set", LATER, "--price", "pages=1000000", "--price",
        "chat:a=b=333/1000,least=2000,step=10",
        "--margin-bp", "-250", "--note", "spring",
    )  # fmt: skip
    assert (made["start"], made["in_force"]) == (LATER, False)
    assert made["version"] == {
        "prices": [
            {"unit": "pages", "micro_cents": 1_000_000},
            {"unit": "a=b", "micro_cents": 333, "per": 1000, "kind": "chat", "least_micro_cents": 2000,
             "step_micro_cents": 10},
        ],
        "margin_bp": -250, "note": "spring",
    }  # fmt: skip
    assert site.json("prices", "show", LATER) == made
    assert site.json("prices", "list") == {"prices": [made]}
    file = site.directory / "prices.json"
    file.write_text(json.dumps(made | {"version": made["version"] | {"billed": {"chat": ["failed"]}}}))
    again = site.json("prices", "set", LATER, "--body", f"@{file}")
    assert again["version"]["billed"] == {"chat": ["failed"]}
    assert "billed of kind chat: failed" in site.run("prices", "show", LATER).stdout
    assert "spring" in site.run("prices", "list").stdout
    assert site.run("prices", "remove", LATER).stdout == f"removed the prices from {LATER} on\n"
    assert site.json("prices", "list") == {"prices": []}


def test_quotas_are_set_listed_shown_and_removed(site: Site) -> None:
    made = site.json("quotas", "set", "--day", "pages=100", "--month", "micro_cents=5")
    assert [(one["unit"], one["period"], one["most"], one["used"]) for one in made["quotas"]] == [
        ("pages", "day", 100, "0"), ("micro_cents", "month", 5, "0"),
    ]  # fmt: skip
    assert (made["tenant"], made["of"]) == ("default", "all")
    assert site.json("quotas", "show") == made
    other = site.json("quotas", "set", "--tenant", "acme", "--day", "x=0")
    assert site.json("quotas", "list", "--tenant", "acme") == {"quotas": [other]}
    assert "micro_cents" in site.run("quotas", "list").stdout
    assert site.run("quotas", "remove").stdout == "removed the quotas of all\n"
    assert site.json("quotas", "list") == {"quotas": []}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prices", "set", "31.1.2026", "--price", "pages=1"), "DAY"),
        (("prices", "set", LATER), "--price"),
        (("prices", "set", LATER, "--price", "pages"), "is not like"),
        (("prices", "set", LATER, "--price", "pages=1.5"), "is not like"),
        (("prices", "set", LATER, "--price", "pages=-1"), "is not like"),
        (("prices", "set", LATER, "--price", "pages=1/7"), "per"),
        (("prices", "set", LATER, "--price", "pages=1,least=x"), "is not like"),
        (("prices", "set", LATER, "--price", "pages=1,lest=2"), "is not like"),
        (("prices", "set", LATER, "--price", "chat:pages=1/1000,least=2,steps=3"), "is not like"),
        (("prices", "set", LATER, "--price", "pages=1", "--price", "pages=2"), "has two"),
        (("prices", "set", LATER, "--price", "pages=1", "--body", "{}"), "--body has all of it"),
        (("prices", "set", LATER, "--body", "nothing"), "JSON"),
        (("prices", "set", LATER, "--body", '{"version": 7}'), "expected object"),
        (("prices", "set", LATER, "--body", '{"price": []}'), "price"),
        (("prices", "set", LATER, "--price", "pages=1", "--margin-bp", "-10001"), "margin_bp"),
        (("prices", "show", LATER), "no prices begin"),
        (("prices", "show", "0001-01-01"), "no prices begin"),
        (("prices", "remove", LATER), "no prices begin"),
        (("quotas", "set"), "--day"),
        (("quotas", "set", "--day", "pages=1.5"), "is not like"),
        (("quotas", "set", "--day", "pages=-1"), "is not like"),
        (("quotas", "set", "--day", "=1"), "is not like"),
        (("quotas", "set", "--day", "pages=1", "--day", "pages=2"), "same unit"),
        (("quotas", "set", "--day", f"pages={10**30}"), "most"),
        (("quotas", "set", "../x", "--day", "pages=1"), "the id of an API key"),
        (("quotas", "show", KEY), "no quotas"),
        (("quotas", "remove", KEY), "no quotas"),
    ],
)
def test_what_cannot_be_is_said(site: Site, arguments: tuple[str, ...], said: str) -> None:
    found = site.run(*arguments)
    assert found.returncode != 0
    assert said in found.stderr
    assert "Traceback" not in found.stderr
