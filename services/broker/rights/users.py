"""The users of a broker in a directory: who there is, their keys, and the server's file.

    users.json       parts and workers with their public keys
    switchyard.conf  what nats-server includes, made of that and of the table
    <part>.nk        the key of a part, a secret
    worker-<name>.nk that of a worker

A key is written once. It may be moved to where it is used: the server's file needs the public key alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Final, NamedTuple, cast

from switchyard.events.errors import ConflictError, InvalidError, NotFoundError, SwitchyardError
from switchyard.events.subjects import is_name
from switchyard.services.broker.rights.nkeys import PUBLIC, new_seed, public_of
from switchyard.services.broker.rights.server_file import is_untouched, server_file
from switchyard.services.broker.rights.table import PARTS, Part

USERS: Final = "users.json"
SERVER: Final = "switchyard.conf"
ALONE: Final[tuple[Part, ...]] = tuple(part for part in PARTS if part != "worker")
"""The parts that are one user each, however many processes there are."""


class UsersError(SwitchyardError):
    """The directory cannot be used as it is; the message says why."""


class Users(NamedTuple):
    """Who there is.

    Args:
        parts: the public key of each part.
        workers: that of each worker, by its name.
    """

    parts: Mapping[Part, str]
    workers: Mapping[str, str]


class Done(NamedTuple):
    """What a call has done.

    Args:
        made: files with a new key.
        kept: who was there already.
        removed: who is not there any more.
    """

    made: list[Path]
    kept: list[str]
    removed: list[str]


def key_file(directory: Path, part: Part, worker: str = "") -> Path:
    """Where a key is written."""
    return directory / (f"worker-{worker}.nk" if part == "worker" else f"{part}.nk")


def read(directory: Path) -> Users:
    """Who there is; nobody where there is no such directory yet.

    Raises:
        UsersError: the list cannot be read.
    """
    path = directory / USERS
    try:
        said = json.loads(path.read_bytes())
        parts, workers = dict(said["parts"]), dict(said["workers"])
        keys = [*parts.values(), *workers.values()]
        is_sound = set(parts) <= set(ALONE) and all(map(is_name, workers)) and len(set(keys)) == len(keys)
        if not is_sound or not all(PUBLIC.fullmatch(key) for key in keys):
            raise ValueError("names or keys are wrong")  # noqa: TRY301 - as json's own
    except FileNotFoundError:
        return Users({}, {})
    except OSError as error:
        raise UsersError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UsersError(f"{path} is not as `switchyard nats-config` writes it: {error}") from None
    return Users(cast("dict[Part, str]", parts), workers)


def check_worker(name: str) -> str:
    """A worker's name as it may be.

    Raises:
        InvalidError: it may not.
    """
    if not is_name(name):
        raise InvalidError(
            f"{name[:80]!r} is no name of a worker: 1 to 63 of a-z, 0-9, - and _, no - or _ first",
            field="worker",
        )
    return name


def check_directory(directory: Path) -> Path:
    """Where the files are to be, as the line of the configuration can name it.

    Raises:
        InvalidError: it cannot.
    """
    found = str(directory.resolve())
    if not found.isprintable() or set(found) & set('"\\'):
        raise InvalidError(
            f"{found[:200]!r} cannot stand in the server's configuration: "
            "a path without quotes, backslashes and what cannot be printed was expected",
            field="out",
        )
    return directory


def change(
    directory: Path,
    *,
    parts: list[Part],
    workers: list[str],
    rotate: list[str],
    remove: list[str],
    force: bool = False,
) -> Done:
    """Add, renew and remove users, and write the server's file; who is not named stays as it is.

    Args:
        directory: made when it is not there.
        parts: those that are to be there.
        workers: likewise.
        rotate: who gets a new key: a part's name, or `worker-` and a worker's.
        remove: who goes, likewise.
        force: whether files that were written by others, or changed, are written over.

    Raises:
        InvalidError: a name is wrong, or given twice, or the directory has one that cannot be included.
        NotFoundError: somebody to be renewed or removed is not there.
        ConflictError: a file stands there that would be written over.
        UsersError: the directory cannot be used.
    """
    named: list[list[str]] = [workers, list[str](parts), rotate, remove]
    for given in named:
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise InvalidError(f"{twice[0]!r} is given twice", field="worker")
    wanted: list[tuple[Part, str]] = [(part, "") for part in parts]
    wanted += [("worker", check_worker(name)) for name in workers]
    with _held(check_directory(directory)):
        users = read(directory)
        _check_server(directory, force=force)
        left_parts, left_workers = dict(users.parts), dict(users.workers)
        going, renewed = ([_known(name, users) for name in names] for names in (remove, rotate))
        for part, worker in going:
            _drop(left_parts, left_workers, part, worker)
        kept = [_called(*one) for one in wanted if _has(left_parts, left_workers, *one)]
        new = [one for one in wanted if not _has(left_parts, left_workers, *one)] + renewed
        if overlap := set(going) & set(renewed):
            raise InvalidError(f"{_called(*overlap.pop())} is to be renewed and removed", field="worker")
        for one in new:
            if key_file(directory, *one).exists() and one not in renewed and one not in going and not force:
                raise ConflictError(
                    f"{key_file(directory, *one)} is there, and {USERS} does not know it: move it away, "
                    "or say --yes to write over it"
                )
        made = []
        for part, worker in dict.fromkeys(new):
            seed = new_seed()
            _put(key_file(directory, part, worker), seed + "\n", mode=0o600)
            made.append(key_file(directory, part, worker))
            if part == "worker":
                left_workers[worker] = public_of(seed)
            else:
                left_parts[part] = public_of(seed)
        _put(
            directory / USERS,
            json.dumps({"parts": left_parts, "workers": left_workers}, indent=2, sort_keys=True) + "\n",
        )
        _put(directory / SERVER, server_file(left_parts, left_workers))
        for one in going:
            if one not in new:
                with suppress(FileNotFoundError):
                    key_file(directory, *one).unlink()
        return Done(made, kept, [_called(*one) for one in going])


def _called(part: Part, worker: str) -> str:
    return f"worker-{worker}" if part == "worker" else part


def _has(parts: Mapping[Part, str], workers: Mapping[str, str], part: Part, worker: str) -> bool:
    return worker in workers if part == "worker" else part in parts


def _drop(parts: dict[Part, str], workers: dict[str, str], part: Part, worker: str) -> None:
    if part == "worker":
        del workers[worker]
    else:
        del parts[part]


def _known(name: str, users: Users) -> tuple[Part, str]:
    """Who is meant, who has to be there."""
    worker = name.removeprefix("worker-")
    if worker != name and worker in users.workers:
        return "worker", worker
    if name in users.parts:
        return cast("Part", name), ""
    there = ", ".join([*sorted(users.parts), *(f"worker-{one}" for one in sorted(users.workers))]) or "nobody"
    raise NotFoundError(f"there is no user {name[:80]!r}; there are: {there[:1000]}")


def _check_server(directory: Path, *, force: bool) -> None:
    """Refuse to write over a server's file that somebody else wrote or changed."""
    path = directory / SERVER
    try:
        is_ours = is_untouched(path.read_text(errors="replace"))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsersError(f"{path} cannot be read: {error.strerror}") from None
    if not is_ours and not force:
        raise ConflictError(f"{path} was changed, or is another's: say --yes to write over it")


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """One at a time."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UsersError(f"{directory} cannot be used: {error.strerror}") from None
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        yield
    except BlockingIOError:
        raise UsersError(f"another `switchyard nats-config` works on {directory}") from None
    finally:
        os.close(descriptor)


def _put(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a file as a whole; nobody can read a secret before it has its mode."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.unlink(missing_ok=True)
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:  # noqa: PTH123
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise UsersError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)
