"""The files of the page. They say nothing of what is here, so anybody may read them.

The page names its scripts by a digest of all of them: they may be kept for ever, and the next version has
other names. It takes scripts, styles and answers from its own gateway alone, and text becomes markup only in
the one sanitiser that it brings.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import Final, NamedTuple

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types dompurify"
)
TYPES: Final = {
    "css": "text/css",
    "html": "text/html",
    "mjs": "text/javascript",
    "svg": "image/svg+xml",
}
PAGE: Final = "page.html"
VERSION: Final = "{version}"
MODULES: Final = "{modules}"
NOT_AT_ONCE: Final = {"theme.mjs", "marked.mjs", "purify.mjs"}
"""The first is no module and runs before anything is painted; the others come with the first Markdown."""
DIGITS: Final = 16


class Static(NamedTuple):
    """All that the page is made of.

    Args:
        version: a digest of it, which stands in the paths.
        page: the document, in UTF-8.
        files: the others by name, each with its media type.
    """

    version: str
    page: bytes
    files: dict[str, tuple[str, bytes]]


def load() -> Static:
    """Read them from where the package is."""
    found = {one.name: one.read_bytes() for one in resources.files(__package__).joinpath("static").iterdir()}
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(f"{name} {len(found[name])}\n".encode())
        digest.update(found[name])
    version = digest.hexdigest()[:DIGITS]
    named = (name for name in sorted(found) if name.endswith(".mjs") and name not in NOT_AT_ONCE)
    # All at once, though one imports the other: else a browser finds the last of them after five answers.
    links = "\n".join(f'<link rel="modulepreload" href="monitor/{VERSION}/{name}">' for name in named)
    page = found.pop(PAGE).decode().replace(MODULES, links).replace(VERSION, version).encode()
    files = {name: (TYPES[name.rpartition(".")[2]], body) for name, body in found.items()}
    return Static(version, page, files)
