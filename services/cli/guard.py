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
        reason = distribution.broken("switchyard", error) if isinstance(error, ImportError) else error
        sys.stderr.write(f"switchyard: {reason}\n")
        sys.exit(2)
    except (Exception, BaseExceptionGroup) as error:
        from switchyard.services.cli.errors import is_known, report  # noqa: PLC0415 - most commands have none

        first = _first(error)
        if debug or not is_known(first):
            raise
        report(first)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
