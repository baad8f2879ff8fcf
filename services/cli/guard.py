"""What becomes of an error of a command."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

import click

from switchyard.services import distribution
from switchyard.services.distribution import IncompleteError


def guarded(command: Callable[[], int | None], *, debug: bool) -> NoReturn:
    """Run a command and exit; a known error becomes one sentence and a code, a bug keeps its traceback.

    Args:
        command: runs click with `standalone_mode=False`, which returns an exit code or raises.
        debug: whether known errors keep their traceback too.
    """
    try:
        sys.exit(command() or 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has enough; Python must not try to flush the rest at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (IncompleteError, ImportError) as error:
        ours = isinstance(error, ImportError) and distribution.is_ours(error)
        if debug or ours:
            raise
        told = distribution.broken("switchyard", error) if isinstance(error, ImportError) else error
        sys.stderr.write(f"switchyard: {told}\n")
        sys.exit(2)
    except (Exception, BaseExceptionGroup) as error:
        # Imported now, because it knows the errors of many libraries.
        from switchyard.services.cli.errors import KNOWN, is_full, tell  # noqa: PLC0415

        first = _first(error)
        if debug or not (isinstance(first, KNOWN) or is_full(first)):
            raise
        tell(first)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
