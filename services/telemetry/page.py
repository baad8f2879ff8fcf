"""The table of `docs/metrics.md`, from the table of metrics; the page around it is written by hand."""

from __future__ import annotations

from typing import Final

from switchyard.services.telemetry.names import SPECS, Spec

HEAD: Final = "| metric | type | unit | labels | part | meaning |\n|---|---|---|---|---|---|\n"


def page(written: str) -> str:
    """The page with the table as it is to be.

    Args:
        written: the page as it stands.
    """
    return written.partition(HEAD)[0] + HEAD + "".join(map(_row, SPECS))


def _row(spec: Spec) -> str:
    labels = ", ".join(f"`{label}`" for label in spec.labels)
    cells = (f"`{spec.exported}`", spec.type, spec.unit, labels, ", ".join(spec.parts), spec.meaning)
    return f"| {' | '.join(cells)} |\n"
