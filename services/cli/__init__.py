"""The command line: `switchyard`."""

from __future__ import annotations

import sys
from typing import NoReturn

from switchyard.services import distribution


def main() -> NoReturn:
    """Run the command line; exits with a code of `switchyard.services.cli.errors.EXIT_CODES`."""
    try:
        from switchyard.services.cli.root import run  # noqa: PLC0415 - its libraries may be missing
    except ImportError as error:
        if distribution.is_ours(error):
            raise
        sys.stderr.write(f"switchyard: {distribution.broken('switchyard', error)}\n")
        sys.exit(2)
    run()
