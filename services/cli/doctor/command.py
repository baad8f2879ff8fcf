"""`switchyard doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import click

from switchyard.services import distribution
from switchyard.services.cli import options
from switchyard.services.cli.doctor import host
from switchyard.services.cli.doctor.check import Check
from switchyard.services.cli.doctor.gateway import gateway
from switchyard.services.cli.output import print_json, print_table
from switchyard.services.connectors.registry import CONNECTORS
from switchyard.services.settings import Settings


def _ocr() -> Check:
    found = CONNECTORS["convert"](slots=1).capabilities()["convert"]
    languages = found["ocr_languages"]
    if not found["ocr"]:
        advice = "scans cannot be converted: apt-get install tesseract-ocr tesseract-ocr-eng"
        return Check("ocr", "warn", "no tesseract", advice)
    summary = f"tesseract {found['ocr_version']}, languages {', '.join(languages) or 'none'}"
    if "eng" in languages:
        return Check("ocr", "ok", summary)
    return Check("ocr", "warn", summary, "the default language is missing: apt-get install tesseract-ocr-eng")


async def _parts(settings: Settings) -> AsyncIterator[Check]:
    """What parts of Switchyard need on this host, where the libraries are that they are made of."""
    if wrong := distribution.faults("worker"):
        found = f"not looked at without {', '.join(wrong)}"
        yield Check("broker", "ok", found, distribution.how_to_install("worker"))
        return
    try:
        from switchyard.services.cli.doctor import broker, storage  # noqa: PLC0415 - of an extra
    except ImportError as error:
        if distribution.is_ours(error):
            raise
        yield Check(
            "libraries", "fail", str(error), distribution.how_to_install("worker", options=distribution.AGAIN)
        )
        return
    click.get_current_context().obj.set_up()
    if not distribution.is_absent("documents"):
        yield _ocr()
    yield await broker.binary(settings)
    yield await asyncio.to_thread(storage.read_model, settings)
    async for check in broker.broker(settings):
        yield check


@click.command()
@options.as_json
@options.data_dir
@options.nats
def doctor(as_json: bool, data_dir: Path | None, nats: str | None) -> None:
    """Check everything that Switchyard needs, and say what to do; exit 1 when something fails."""
    settings = options.settings_of(data_dir=data_dir, nats_url=nats)

    async def main() -> list[Check]:
        checks = [host.python(), *host.packages(), host.disk(settings), host.privacy(settings)]
        checks.append(host.administrator(settings))
        checks += [check async for check in _parts(settings)]
        return checks + [check async for check in gateway(settings)]

    checks = options.run(main())
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        print_table(("what", "status", "found", "advice"), map(asdict, checks))
    sys.exit(1 if any(check.status == "fail" for check in checks) else 0)
