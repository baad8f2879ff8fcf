"""`docs/settings.md`, from the settings themselves."""

from __future__ import annotations

from switchyard.services.settings import Settings


def page() -> str:
    """`docs/settings.md`."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown = "" if default is None or default in ((), {}) else f"`{default}`"
        rows.append(f"| `SWITCHYARD_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(
        [
            "# Settings",
            "",
            "Made by `make docs` from `services/settings.py`. Every setting is read from the environment; command-line",
            "options override it. A variable that begins with `SWITCHYARD_` and is no setting is refused. Sizes are bytes,",
            "times are seconds.",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
