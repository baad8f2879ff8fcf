"""A worker as a service of systemd: the unit that starts this very command, and its environment beside it.

Source: systemd.service(5), systemd.exec(5), systemd.syntax(7), systemd.unit(5).
"""

from __future__ import annotations

import os
import pwd
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

import click

from switchyard.services.settings.names import PREFIX
from switchyard.services.settings.older import worker as older_worker

Scope = Literal["user", "system"]
MARK: Final = "# Made by `switchyard worker --install-service`; --uninstall-service removes it."
OWN: Final = ("--install-service", "--uninstall-service", "--print", "--run-as")
WITH_VALUE: Final = ("--install-service", "--uninstall-service", "--run-as")
OF_OTHERS: Final = (
    *older_worker.SETTINGS, *older_worker.BACKENDS, older_worker.TOKEN, "CUDA_VISIBLE_DEVICES", "PATH",
    "PYTHONPATH", "SSL_CERT_FILE",
)  # fmt: skip
"""Variables that a worker reads beside those with our prefix."""
NOT_KEPT: Final = ("SWITCHYARD_CHILD",)
ENDS_S: Final = 30  # after its grace period a worker has ended
UNIT: Final = """\
{mark}
[Unit]
Description=Switchyard worker {name}
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=exec
{user}WorkingDirectory={directory}
EnvironmentFile={environment}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
KillMode=mixed
TimeoutStopSec={stop_s}
Restart={restart}
RestartSec=5
RestartPreventExitStatus=2

[Install]
WantedBy={target}
"""


class Service(NamedTuple):
    """What is written for a worker.

    Args:
        scope: whose manager starts it.
        unit: the unit's file.
        text: what stands in it.
        environment: the file with its variables, which its owner alone may read.
        variables: what stands in that.
        owner: who runs it, where that is not its writer.
    """

    scope: Scope
    unit: Path
    text: str
    environment: Path
    variables: str
    owner: str | None

    @property
    def steps(self) -> list[str]:
        """What is to be typed to start it."""
        manager = "systemctl --user" if self.scope == "user" else "systemctl"
        again = [f"{manager} daemon-reload", f"{manager} enable --now {self.unit.name}"]
        lasting = ["loginctl enable-linger  # so that it runs while you are not logged in"]
        return again + (lasting if self.scope == "user" else [])


def service_of(
    scope: Scope, *, name: str, words: Sequence[str], drain_s: float, ends_by_itself: bool, run_as: str | None
) -> Service:
    """The service that runs a command as it was typed.

    Args:
        scope: whose manager starts it.
        name: that of the worker; the unit is named after it.
        words: the command, as the system has started it.
        drain_s: how long it has for running jobs.
        ends_by_itself: whether it may end without being started again.
        run_as: who runs it; for the system's alone.

    Raises:
        click.UsageError: it cannot be said to systemd, or nobody was named who could run it.
    """
    unit, environment = paths(scope, name)
    owner = _owner(scope, run_as)
    text = UNIT.format(
        mark=MARK,
        name=name,
        user="" if owner is None else f"User={owner}\n",
        directory=_plain(str(Path.cwd()), "the current directory"),
        environment=_plain(str(environment), "the file of the environment"),
        command=" ".join(_word(word) for word in _command(words)),
        stop_s=round(drain_s + ENDS_S),
        restart="on-failure" if ends_by_itself else "always",
        target="default.target" if scope == "user" else "multi-user.target",
    )
    return Service(scope, unit, text, environment, _variables(os.environ), owner)


def paths(scope: Scope, name: str) -> tuple[Path, Path]:
    """Where the unit and its environment stand."""
    if scope == "system":
        return Path(f"/etc/systemd/system/{_unit(name)}"), Path(f"/etc/switchyard/{_unit(name)}.env")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    if not config.is_absolute():
        raise click.UsageError(f"XDG_CONFIG_HOME is no absolute path: {config}")
    return config / "systemd/user" / _unit(name), config / "switchyard" / f"{_unit(name)}.env"


def _unit(name: str) -> str:
    return f"switchyard-{name}.service"


def install(service: Service) -> None:
    """Write the files.

    Raises:
        click.ClickException: another's unit stands there, or one cannot be written.
    """
    _check_ours(service.unit)
    try:
        for directory in (service.unit.parent, service.environment.parent):
            directory.mkdir(parents=True, exist_ok=True)
        _write(service.environment, service.variables, mode=0o600)
        _write(service.unit, service.text, mode=0o644)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None


def uninstall(scope: Scope, name: str) -> Path | None:
    """Remove the files; the unit's path, or None where there is none.

    Raises:
        click.ClickException: the unit is another's, or cannot be removed.
    """
    unit, environment = paths(scope, name)
    if not unit.exists():
        return None
    _check_ours(unit)
    try:
        unit.unlink()
        environment.unlink(missing_ok=True)
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
    return unit


def _check_ours(unit: Path) -> None:
    try:
        with unit.open(encoding="utf-8", errors="replace") as file:
            is_ours = file.readline().rstrip("\n") == MARK
    except FileNotFoundError:
        return
    except OSError as error:
        raise click.ClickException(f"{unit}: {error.strerror}") from None
    if not is_ours:
        raise click.ClickException(
            f"{unit} is not of `switchyard worker --install-service`, and is left as it is"
        )


def _write(path: Path, text: str, *, mode: int) -> None:
    """Put a whole file in its place; nobody can read it before it has its mode."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:  # noqa: PTH123
            file.write(text)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _owner(scope: Scope, run_as: str | None) -> str | None:
    if scope == "user":
        if run_as is not None:
            raise click.UsageError(
                "--run-as is for --install-service system: a user's service runs as that user"
            )
        return None
    user = run_as or os.environ.get("SUDO_USER")
    if not user:
        raise click.UsageError("--install-service system needs --run-as USER, whom the worker runs as")
    try:
        return pwd.getpwnam(user).pw_name
    except KeyError:
        raise click.UsageError(f"--run-as: there is no user {user[:80]!r}") from None


# --- What systemd reads


def _command(words: Sequence[str]) -> list[str]:
    """The command without the options that are about the service, its program by its whole path."""
    kept: list[str] = []
    skips = False
    program, given = sys.executable, list(words[1:])
    bundle = os.environ.get("PEX", "")
    laid_out = [at for at, word in enumerate(given) if Path(word).name == "pex"]
    if laid_out and Path(bundle).is_file():  # what it has laid out may be tidied away
        program = str(getattr(sys, "_base_executable", sys.executable))
        given = [bundle, *given[laid_out[0] + 1 :]]
    for word in given:
        if skips:
            skips = False
        elif word in OWN:
            skips = word in WITH_VALUE
        elif not word.startswith(tuple(f"{option}=" for option in OWN)):
            kept.append(word)
    if kept and not kept[0].startswith("-") and Path(kept[0]).exists():
        kept[0] = str(Path(kept[0]).absolute())  # the script, or the bundle
    return [program, *kept]


def _word(word: str) -> str:
    """A word of a command line; nothing in it is expanded."""
    _plain(word, "a word of the command")
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return escaped if re.fullmatch(r"[\w./:=,@%+-]+", escaped, re.ASCII) else f'"{escaped}"'


def _plain(text: str, what: str) -> str:
    """A value that stands for itself on a line.

    Raises:
        click.UsageError: it has a line break or the like in it.
    """
    if not text.isprintable():
        raise click.UsageError(f"{what} cannot stand in a unit of systemd: {text[:80]!r}")
    return text if what.startswith("a word") else text.replace("%", "%%")


def _variables(environment: Mapping[str, str]) -> str:
    """Those that a worker reads, as they are now."""
    lines = [MARK]
    for name, value in sorted(environment.items()):
        if (name.startswith(PREFIX) and name not in NOT_KEPT) or name in OF_OTHERS:
            if "\0" in value or not value.isprintable():
                raise click.UsageError(
                    f"{name} cannot stand in a file of systemd: it has a line break or the like"
                )
            escaped = re.sub(r'(["\\`$])', r"\\\1", value)
            lines.append(f'{name}="{escaped}"')
    return "\n".join(lines) + "\n"
