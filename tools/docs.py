"""Writes the generated documents: `python -m tools.docs`; tests compare them with the code."""

from __future__ import annotations

from pathlib import Path

from switchyard.events.transitions import page
from switchyard.services.broker.rights.page import page as rights_page
from switchyard.services.cli.config.page import page as settings_page
from switchyard.services.cli.page import page as cli_page
from switchyard.services.cli.root import cli
from switchyard.services.telemetry.page import page as metrics_page

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Write every generated page."""
    (DOCS / "state_machine.md").write_text(page())
    (DOCS / "cli.md").write_text(cli_page(cli))
    (DOCS / "settings.md").write_text(settings_page())
    rights = DOCS / "broker-rights.md"
    rights.write_text(rights_page(rights.read_text()))
    metrics = DOCS / "metrics.md"
    metrics.write_text(metrics_page(metrics.read_text()))


if __name__ == "__main__":
    main()
