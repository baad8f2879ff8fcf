"""Get the modules of others that the monitor page is made of, in the versions that are pinned here.

    python -m tools.vendor

They come from npm by its own client, and are stored as they are but for what `CHANGES` lists. A test compares
what is stored with `vendored.json`, which this writes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

STATIC: Final = Path(__file__).resolve().parents[1] / "services/gateway/monitor/static"


class Module(NamedTuple):
    """A file of a package.

    Args:
        package: its name and version at npm.
        licence: under which it is used.
        path: where it is in the package.
        name: what it is stored as.
    """

    package: str
    licence: str
    path: str
    name: str


MODULES: Final = (
    Module("preact@11.2.0", "MIT", "dist/preact.mjs", "preact.mjs"),
    Module("preact@11.2.0", "MIT", "hooks/dist/hooks.mjs", "preact-hooks.mjs"),
    Module("htm@3.1.1", "Apache-2.0", "dist/htm.module.js", "htm.mjs"),
    Module("uplot@1.6.32", "MIT", "dist/uPlot.esm.js", "uplot.mjs"),
    Module("uplot@1.6.32", "MIT", "dist/uPlot.min.css", "uplot.css"),
    Module("marked@18.2.1", "MIT", "lib/marked.esm.js", "marked.mjs"),
    Module("dompurify@3.5.0", "Apache-2.0", "dist/purify.es.mjs", "purify.mjs"),
)
CHANGES: Final = {"preact-hooks.mjs": ('from"preact"', 'from"./preact.mjs"')}
"""A module without a build step finds another by its path alone."""


def main() -> None:
    """Store all of them, their licences and the list of both."""
    stored: list[dict[str, str]] = []
    licences: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for package in dict.fromkeys(module.package for module in MODULES):
            packed = subprocess.run(
                ["npm", "pack", "--silent", package], cwd=scratch, check=True, capture_output=True, text=True
            ).stdout.strip()
            with tarfile.open(Path(scratch) / packed) as archive:
                licences.append(f"{package}\n\n{_text(archive, 'LICENSE').strip()}\n")
                stored += [_store(archive, module) for module in MODULES if module.package == package]
    (STATIC.parent / "vendored.json").write_text(json.dumps(stored, indent=1) + "\n")
    (STATIC.parent / "licences.txt").write_text(f"\n{'-' * 72}\n\n".join(licences))


def _store(archive: tarfile.TarFile, module: Module) -> dict[str, str]:
    lines = _text(archive, module.path).splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("//# sourceMappingURL="))
    if module.name in CHANGES:
        old, new = CHANGES[module.name]
        if text.count(old) != 1:
            raise SystemExit(f"{module.package}: {old} is not in it once")
        text = text.replace(old, new)
    (STATIC / module.name).write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return {"file": module.name, "package": module.package, "licence": module.licence, "sha256": digest}


def _text(archive: tarfile.TarFile, path: str) -> str:
    found = archive.extractfile(f"package/{path}")
    if found is None:
        raise SystemExit(f"{path} is no file")
    return found.read().decode()


if __name__ == "__main__":
    main()
