"""A worker whose handlers are read again when their files change: for development."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import structlog
from watchfiles import PythonFilter, awatch

from switchyard.handlers import HandlersError
from switchyard.services.worker.worker import Worker

log = structlog.get_logger()


async def run(
    make: Callable[[], Worker],
    sources: Sequence[str],
    stop: asyncio.Event,
    ready: Callable[[], None],
    changed: Callable[[Worker], None],
) -> None:
    """Work until asked to stop; after every change of a file, with the new code.

    An attempt that runs ends with the code that it began with: its worker takes no further jobs and leaves
    when it is done, while another takes its place. A change that cannot be imported changes nothing.

    Args:
        make: a worker with the handlers as they are imported now.
        sources: `module:attribute` of each; what lies beside and below these modules is watched.
        stop: set to end.
        ready: called once the first worker takes jobs.
        changed: called with every worker that begins.
    """
    # Two edits within a second and of one length would look alike to a cache of compiled code.
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    roots = _roots(sources)
    workers = [make()]
    changed(workers[0])

    async def work(worker: Worker) -> None:
        await worker.run()
        if worker is workers[-1]:  # an operator has drained it
            stop.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(work(workers[0]))
        await workers[0].ready.wait()
        ready()
        async for _ in awatch(*roots, stop_event=stop, watch_filter=PythonFilter()):
            try:
                with _afresh(roots):
                    successor = make()
            except HandlersError as error:
                log.warning("handlers_kept", error=str(error))
                continue
            workers[-1].retire()
            workers[:] = [*(worker for worker in workers if not worker.gone), successor]
            group.create_task(work(successor))
            changed(successor)
            await successor.ready.wait()
            log.info("handlers_reloaded", worker=successor.id)
        for worker in workers:
            worker.stop()


def _roots(sources: Sequence[str]) -> list[Path]:
    """The directories of the modules, or of the packages that they are in."""
    roots = set()
    for source in sources:
        module = sys.modules[source.partition(":")[0].partition(".")[0]]
        path = module.__file__ or next(iter(module.__path__)) + "/-"
        roots.add(Path(path).resolve().parent)
    return sorted(roots)


@contextlib.contextmanager
def _afresh(roots: Sequence[Path]) -> Iterator[None]:
    """Forget what was imported from the directories, and remember it if the block fails."""
    old: dict[str, ModuleType] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        own = name.partition(".")[0] == "switchyard"
        if file and not own and name != "__main__" and _is_below(Path(file).resolve(), roots):
            old[name] = sys.modules.pop(name)
            _forget_bytecode(module)
    importlib.invalidate_caches()
    try:
        yield
    except BaseException:
        sys.modules.update(old)
        raise


def _forget_bytecode(module: ModuleType) -> None:
    """Whoever imported it first may have written a cache, within the second of the next edit."""
    cached = getattr(module, "__cached__", None)
    if cached:
        with contextlib.suppress(OSError):
            Path(cached).unlink(missing_ok=True)


def _is_below(path: Path, roots: Sequence[Path]) -> bool:
    return "site-packages" not in path.parts and any(path.is_relative_to(root) for root in roots)
