"""Commands about the price book."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from switchyard.services.cli import options
from switchyard.services.cli.json_option import object_of
from switchyard.services.cli.output import print_json, print_table, say

BOOK: Final = ("start", "in_force", "prices", "margin_bp", "note")
VERSION: Final = (
    "unit", "kind", "micro_cents", "per", "margin_bp", "least_micro_cents", "step_micro_cents",
)  # fmt: skip
PRICE: Final = re.compile(r"(?:([a-z0-9][a-z0-9_-]*):)?(.+)=([0-9]+)(?:/([0-9]+))?", re.DOTALL)
TERMS: Final = re.compile(r"(?:,(?:least|step)=[0-9]+)+\Z")
SLIP: Final = re.compile(r"=[0-9]+(?:/[0-9]+)?,")
"""A price within what would be a unit, as in `pages=5,lest=2`. `--body` takes units that are named so."""
START: Final = click.argument("start", type=click.DateTime(formats=["%Y-%m-%d"]), metavar="DAY")


@click.group()
def prices() -> None:
    """Say what units cost, in versions that each hold from a day of UTC on; needs role operator."""


def _call(data_dir: Path | None, method: str, start: datetime | None = None, **sent: Any) -> Any:
    path = "/v1/prices" if start is None else f"/v1/prices/{start.date().isoformat()}"

    async def main() -> Any:
        async with options.gateway(data_dir) as api:
            return await api.call(method, path, **sent)

    return options.ask(main())


@prices.command("set")
@START
@click.option(
    "--price", multiple=True, metavar="[KIND:]UNIT=MICRO_CENTS[/PER][,least=N][,step=N]",
    help="What a unit costs, or PER of them (1000, 1000000 or 1000000000); what an attempt costs at least, "
    "and to a multiple of what it is rounded up, in micro-cents. Repeatable.",
)  # fmt: skip
@click.option("--margin-bp", type=int, help="Added to all, in hundredths of a percent; a discount below 0.")
@click.option("--note", help="For people.")
@click.option("--body", metavar="JSON|@FILE", help="The whole version instead, as `show --json` has it.")
@options.as_json
@options.data_dir
def set_(
    start: datetime,
    price: tuple[str, ...],
    margin_bp: int | None,
    note: str | None,
    body: str | None,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Set all prices from DAY on, as in 2026-01-31; those that it had go, unless the day has begun."""
    if body is not None:
        if price or margin_bp is not None or note is not None:
            raise click.UsageError("--body has all of it: leave the other options out")
        version = object_of(body, "--body")
        version = version.get("version", version)
    else:
        if not price:
            raise click.UsageError("give at least one --price, or --body '{}' for prices of nothing")
        said = {"margin_bp": margin_bp, "note": note}
        version = {"prices": [_price(one) for one in price]}
        version |= {name: value for name, value in said.items() if value is not None}
    _show(_call(data_dir, "PUT", start, json=version), as_json=as_json)


@prices.command("list")
@options.as_json
@options.data_dir
def list_(as_json: bool, data_dir: Path | None) -> None:
    """Show all versions, the earliest first."""
    found = _call(data_dir, "GET")
    print_json(found) if as_json else print_table(BOOK, map(_row, found["prices"]))


@prices.command("show")
@START
@options.as_json
@options.data_dir
def show(start: datetime, as_json: bool, data_dir: Path | None) -> None:
    """Show the version that begins on DAY."""
    _show(_call(data_dir, "GET", start), as_json=as_json)


@prices.command("remove")
@START
@options.yes
@options.data_dir
def remove(start: datetime, yes: bool, data_dir: Path | None) -> None:
    """Take back the version that begins on DAY, which must not have begun."""
    options.ask_person(f"Take back the prices from {start.date()} on?", yes=yes)
    _call(data_dir, "DELETE", start)
    say(f"removed the prices from {start.date()} on")


def _price(text: str) -> dict[str, Any]:
    terms = TERMS.search(text)
    found = PRICE.fullmatch(text if terms is None else text[: terms.start()])
    if found is None or SLIP.search(found[2]):
        message = f"{text!r} is not like pages=1000000, chat:tokens=333/1000 or pages=1000000,least=2000000"
        raise click.BadParameter(message, param_hint="--price")
    kind, unit, micro_cents, per = found.groups()
    price: dict[str, Any] = {"unit": unit, "micro_cents": int(micro_cents)}
    price |= {} if kind is None else {"kind": kind}
    price |= {} if per is None else {"per": int(per)}
    for term in () if terms is None else terms[0].split(",")[1:]:
        name, _, amount = term.partition("=")
        price[f"{name}_micro_cents"] = int(amount)
    return price


def _show(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_table(BOOK, [_row(found)])
    say("")
    print_table(VERSION, found["version"].get("prices", []))
    for kind, outcomes in found["version"].get("billed", {}).items():
        say(f"billed of kind {kind}: {', '.join(outcomes)}")


def _row(found: dict[str, Any]) -> dict[str, Any]:
    version = found["version"]
    return {
        **found, "prices": len(version.get("prices", [])), "margin_bp": version.get("margin_bp", 0),
        "note": version.get("note", ""), "in_force": "yes" if found["in_force"] else "no",
    }  # fmt: skip
