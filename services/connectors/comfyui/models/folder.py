"""A ComfyUI's folder of models: where files go, what room there is, and which one has to go for another.

All of it blocks, and is meant for threads.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import structlog

from switchyard.services.connectors.comfyui.models import manifest as manifests
from switchyard.services.connectors.comfyui.models.faults import FetchError, GoneError
from switchyard.services.connectors.comfyui.models.manifest import Kept, Manifest, Part
from switchyard.services.connectors.supply import Order
from switchyard.services.records.models.record import path_fault

log = structlog.get_logger()

Place = tuple[str, str]

PART: Final = ".switchyard-part"
FETCH_LOCK: Final = ".switchyard-fetch.lock"
HOLD_S: Final = 600.0
"""How long a fetched file that no job has used yet stays, whatever else is to be fetched."""


class ModelsFolder:
    """One folder.

    Args:
        root: where ComfyUI has its models.
        limit_bytes: that all fetched files may have together.
        margin_bytes: that stay free on the disk.
        hide: called with the path of a file before it is removed.

    Raises:
        OSError: it is not there.
    """

    def __init__(
        self, root: Path, *, limit_bytes: int, margin_bytes: int, hide: Callable[[str], None]
    ) -> None:
        self.root = root.resolve(strict=True)
        if not self.root.is_dir():
            raise NotADirectoryError(f"{root} is no directory")
        self.limit_bytes = limit_bytes
        self._margin_bytes = margin_bytes
        self._hide = hide
        self._fresh: dict[str, float] = {}
        self._ours: set[str] = set()
        """What is known to have been fetched: where it is gone, it was removed for another file."""

    # --- Places

    def final(self, place: Place) -> Path:
        """Where a file belongs.

        Raises:
            FetchError: its name, or a link in its folder, leads elsewhere.
        """
        if path_fault(*place) is not None:
            raise FetchError("its name is none that a model file may have", lasting=True)
        folder = (self.root / place[0]).resolve()
        path = folder / place[1]
        if not path.parent.resolve().is_relative_to(folder):
            raise FetchError("a link in its folder leads elsewhere", lasting=True)
        return path

    def part(self, order: Order) -> Path:
        """Where a file is while it comes; ComfyUI does not list it there."""
        final = self.final(order.place)
        return final.with_name(f".{final.name}.{order.sha256[:8]}{PART}")

    # --- What there is

    def tidy(self) -> Manifest:
        """Settle what an end in mid-fetch has left, and forget what is gone; all that is known then.

        Raises:
            OSError: the folder cannot be read or written.
        """
        found = manifests.change(self.root, self._settle)
        self._ours |= set(found.files)
        return found

    def known(self) -> Manifest:
        """All that is known, as it stands.

        Raises:
            OSError: the folder cannot be read.
        """
        found = manifests.read(self.root)
        self._ours |= set(found.files)
        return found

    def _settle(self, known: Manifest) -> Manifest:
        for path, kept in list(known.files.items()):
            stat = self._stat(path)
            if kept.state == "landing":
                part = known.parts.get(path)
                landed = stat is not None and stat.st_ino == kept.inode
                if landed and stat is not None:
                    known.files[path] = _here(kept, stat)
                    if part is not None:
                        with contextlib.suppress(OSError):
                            (self.root / part.file).unlink()
                        del known.parts[path]
                else:
                    del known.files[path]
            elif stat is None or not _is_same(kept, stat):
                del known.files[path]
        return known

    def _stat(self, path: str) -> os.stat_result | None:
        folder, _, name = path.partition("/")
        try:
            return self.final((folder, name)).stat(follow_symlinks=False)
        except (OSError, FetchError):
            return None

    def room_bytes(self, known: Manifest) -> int:
        """What a file may have once all that was fetched is gone; in three digits, which rarely change."""
        ours = sum(kept.size_bytes for kept in known.files.values())
        # Folders of it may be links to other disks; the one that a file goes to is looked at when it comes.
        folders = [self.root, *(each for each in self.root.iterdir() if each.is_dir())]
        free = max(shutil.disk_usage(folder).free for folder in folders)
        room = max(0, free + ours - self._margin_bytes)
        if room >= self.limit_bytes:
            return self.limit_bytes
        step: int = 10 ** max(0, len(str(room)) - 3)
        return room // step * step

    def drop_parts(self, keep: Collection[str] = ()) -> None:
        """Remove what is on its way and is not wanted any more, but for some.

        Raises:
            OSError: it cannot be written down.
        """

        def edit(known: Manifest) -> None:
            for path, part in list(known.parts.items()):
                if path not in keep:
                    with contextlib.suppress(FileNotFoundError):
                        (self.root / part.file).unlink()
                    del known.parts[path]

        manifests.change(self.root, edit)

    # --- Room

    def make_room(self, order: Order, more_bytes: int) -> None:
        """Remove what was used least lately, until there is room.

        Args:
            order: what is to come; what it names stays.
            more_bytes: that the disk has to take.

        Raises:
            FetchError: there is not enough that may go.
            OSError: the folder cannot be read or written.
        """
        if order.size_bytes > self.limit_bytes:
            raise FetchError("it is larger than the limit for fetched models")
        keep = {f"{folder}/{name}" for folder, name in order.keep} | {order.path}
        while True:
            known = self.tidy()
            ours = sum(kept.size_bytes for path, kept in known.files.items() if path != order.path)
            free = shutil.disk_usage(self.final(order.place).parent).free - self._margin_bytes
            if ours + order.size_bytes <= self.limit_bytes and more_bytes <= free:
                return
            others = {path: part for path, part in known.parts.items() if path != order.path}
            if more_bytes > free and others:
                self.drop_parts({order.path})
                continue
            if not any(self._remove(path) for path in self._victims(known, keep)):
                why = "the disk is full" if more_bytes > free else "the limit for fetched models is reached"
                raise FetchError(f"{why}, and nothing that was fetched may go now")

    def _victims(self, known: Manifest, keep: Collection[str]) -> Iterator[str]:
        now_s = time.monotonic()
        for path, _ in sorted(known.files.items(), key=lambda one: one[1].used):
            if path not in keep and now_s - self._fresh.get(path, -HOLD_S) >= HOLD_S:
                yield path

    def _remove(self, path: str) -> bool:
        """Remove a file that was fetched and that no job uses; whether it is gone."""
        folder, _, name = path.partition("/")
        file = self.final((folder, name))
        try:
            lock = manifests.try_lock(file)
        except FileNotFoundError:
            return True
        if lock is None:
            return False
        try:
            kept = manifests.read(self.root).files.get(path)
            if kept is None or not _is_same(kept, os.fstat(lock)):
                return False
            self._hide(path)
            file.unlink()
        finally:
            os.close(lock)
        manifests.change(self.root, lambda known: known.files.pop(path, None))
        log.info("model_removed", model=path, size_bytes=kept.size_bytes, why="room for another")
        return True

    def is_short(self, path: Path) -> bool:
        """Whether the disk has less left than it should."""
        return shutil.disk_usage(path.parent).free < self._margin_bytes

    # --- Arrival

    def begin(self, order: Order) -> Part:
        """Note that a file is on its way; what there is of it already.

        Raises:
            FetchError: a file is there that was not fetched, or its folder cannot be made.
            OSError: it cannot be written down.
        """
        final, part = self.final(order.place), self.part(order)
        known = self.tidy().files.get(order.path)
        if known is not None and known.sha256 != order.sha256 and not self._remove(order.path):
            raise FetchError("another version of it is in use")
        if known is None and os.path.lexists(final):
            raise FetchError("a file of its name is there that was not fetched", lasting=True)
        final.parent.mkdir(parents=True, exist_ok=True)
        file = os.path.relpath(part, self.root)

        def edit(manifest: Manifest) -> Part:
            manifest.failed.pop(order.path, None)
            before = manifest.parts.get(order.path)
            if before is not None and before.file == file:
                before.revision = order.revision
                return before
            if before is not None:
                with contextlib.suppress(OSError):
                    (self.root / before.file).unlink()
            manifest.parts[order.path] = made = Part(file, order.revision, order.size_bytes)
            return made

        return manifests.change(self.root, edit)

    def note(self, path: str, *, tag: str | None = None, resumed: bool | None = None) -> None:
        """Write down what is known of a file on its way."""

        def edit(known: Manifest) -> None:
            if (part := known.parts.get(path)) is not None:
                part.tag = part.tag if tag is None else tag
                part.resumed = part.resumed if resumed is None else resumed

        manifests.change(self.root, edit)

    def land(self, order: Order) -> None:
        """Give a file that has come whole its name.

        Raises:
            FetchError: somebody has put another there.
            OSError: it cannot be done.
        """
        final, part = self.final(order.place), self.part(order)
        stat = part.stat()

        def landing(known: Manifest) -> None:
            known.uses += 1
            kept = Kept(order.size_bytes, order.sha256, known.uses, "landing", stat.st_ino)
            known.files[order.path] = kept

        manifests.change(self.root, landing)
        try:
            _link(part, final)
        except FileExistsError:
            manifests.change(self.root, lambda known: known.files.pop(order.path, None))
            raise FetchError("somebody has put a file of its name there", lasting=True) from None
        self._fresh[order.path] = time.monotonic()
        _sync(final.parent)
        self.tidy()

    def set_aside(self, order: Order, reason: str) -> None:
        """Drop what came, and note why the entry is not fetched again."""
        self.drop_part(order)
        manifests.change(self.root, lambda known: known.fail(order.path, order.revision, reason))

    def drop_part(self, order: Order) -> None:
        """Drop what has come of a file."""
        with contextlib.suppress(OSError, FetchError):
            self.part(order).unlink()
        manifests.change(self.root, lambda known: known.parts.pop(order.path, None))

    # --- Use

    def hold(self, places: Collection[Place]) -> list[int]:
        """Keep files from being removed; descriptors that are to be closed when the job has ended.

        Raises:
            GoneError: one was removed just now.
        """
        paths = {f"{folder}/{name}" for folder, name in places}
        known = self.known()
        held: list[int] = []
        try:
            held.extend(map(self._held, sorted(paths & self._ours)))
            if used := paths & set(known.files):
                manifests.change(self.root, lambda now: now.use(used))
        except BaseException:
            release(held)
            raise
        for path in used:
            self._fresh.pop(path, None)
        return held

    def _held(self, path: str) -> int:
        folder, _, name = path.partition("/")
        try:
            lock = manifests.try_lock(self.final((folder, name)), shared=True)
        except (FileNotFoundError, FetchError):
            lock = None
        if lock is None:
            raise GoneError(path)
        if not os.fstat(lock).st_nlink:
            os.close(lock)
            raise GoneError(path)
        return lock


def release(held: Collection[int]) -> None:
    """Let go of files that were held."""
    for descriptor in held:
        os.close(descriptor)


def _here(kept: Kept, stat: os.stat_result) -> Kept:
    return Kept(kept.size_bytes, kept.sha256, kept.used, "here", stat.st_ino, stat.st_mtime_ns)


def _is_same(kept: Kept, stat: os.stat_result) -> bool:
    """Whether a file is the one that was fetched."""
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size) == (kept.inode, kept.changed_ns, kept.size_bytes)


def _link(part: Path, final: Path) -> None:
    """Give a file its name, and never another one's place.

    Raises:
        FileExistsError: one is there.
    """
    try:
        os.link(part, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if os.path.lexists(final):
            raise FileExistsError(str(final)) from None
        part.rename(final)
    else:
        part.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
