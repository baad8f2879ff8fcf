"""The command that runs a worker."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from switchyard._worker.handler_errors import StuckError
from switchyard.events.errors import InvalidError
from switchyard.events.subjects import NAME
from switchyard.services import distribution
from switchyard.services.cli import loops, options, systemd
from switchyard.services.cli.output import say
from switchyard.services.cli.restart import Start
from switchyard.services.connectors import registry
from switchyard.services.connectors.registry import CONNECTORS, EXTRAS
from switchyard.services.connectors.sections import ConnectorsError
from switchyard.services.records.tenancy import tenancy_of
from switchyard.services.run import stopping
from switchyard.services.run.rest_worker import gateway_of, run_rest_worker
from switchyard.services.run.worker import run_worker
from switchyard.services.settings import Settings
from switchyard.services.settings.older import worker as older_worker
from switchyard.services.settings.values import LONGEST_S
from switchyard.services.worker.abilities import declared
from switchyard.services.worker.connectors import handlers_of, instances_of
from switchyard.services.worker.hardware.machine import machine_of

SERVICE: Final = "worker"
"""What the service of a worker without a name is called."""


def instances(
    kinds: str | None, connectors: tuple[str, ...], settings: Settings, *, handlers: bool = False
) -> tuple[str, ...]:
    """The connector instances that a worker runs, as `kind:id`; without an id that is the kind's name.

    They are those that the options name; where these name nothing, those of the settings, or else one of each
    kind whose libraries are installed and that needs no settings.

    Raises:
        ConnectorsError: one that is named cannot be used.
        IncompleteError: the libraries of one that is named are not installed.
    """
    names = (*(kinds.split(",") if kinds else ()), *connectors)
    if not names and not handlers:
        names = settings.worker_kinds
    if not names and not handlers:
        names = tuple(f"{_kind(name, each)}:{name}" for name, each in settings.connectors.items())
        if not names:
            return (*(kind for kind in CONNECTORS if _is_complete(kind)), *_offered(settings))
    for name in names:
        if (kind := name.partition(":")[0]) in EXTRAS:
            distribution.check(f"the kind {kind}", EXTRAS[kind])
    instances_of(names, settings)  # what is wrong with them is said before a broker is looked for
    for why in filter(None, registry.installed().values()):
        say(why, err=True)
    return names


def _kind(name: str, section: dict[str, Any]) -> str:
    return str(section.get("kind", name))


def _is_complete(kind: str) -> bool:
    if kind in registry.NEED_SETTINGS:
        return False
    if kind not in EXTRAS:
        return True
    if distribution.is_absent(EXTRAS[kind]):
        say(f"the kind {kind} is left out: {distribution.how_to_install(EXTRAS[kind])}", err=True)
        return False
    distribution.check(f"the kind {kind}", EXTRAS[kind])
    return True


def _offered(settings: Settings) -> Iterator[str]:
    """The kinds of other distributions that can be run without any settings."""
    for kind, why_not in registry.installed().items():
        if why_not:
            say(why_not, err=True)
            continue
        try:
            instances_of([kind], settings)
        except ConnectorsError as error:
            say(f"the kind {kind} is left out: {error}", err=True)
        else:
            yield kind


def _name(_context: click.Context, _option: click.Parameter, name: str | None) -> str | None:
    if name is not None and NAME.fullmatch(name) is None:
        raise click.BadParameter(f"{name!r} is not a name: a-z, 0-9, _ and -, at most 63")
    return name


def _refuse_with_rest(given: dict[str, bool]) -> None:
    for option, is_given in given.items():
        if is_given:
            raise click.UsageError(f"{option} is for a worker on a broker, not with --rest")


def _check_service(
    install: str | None, uninstall: str | None, *, run_as: str | None, show: bool, reload: bool
) -> None:
    if install is not None and uninstall is not None:
        raise click.UsageError("--install-service and --uninstall-service cannot be had together")
    if install is None and (run_as is not None or show):
        raise click.UsageError(f"{'--print' if show else '--run-as'} needs --install-service")
    if reload and (install or uninstall):
        raise click.UsageError("--reload is for development, not for a service")


def _install(service: systemd.Service, *, show: bool) -> None:
    if show:
        say(service.text.rstrip("\n"), lines=True)
        return
    systemd.install(service)
    steps = "\n  ".join(service.steps)
    say(f"wrote {service.unit} and {service.environment}; start it with\n  {steps}", lines=True)


def _uninstall(scope: systemd.Scope, name: str) -> None:
    gone = systemd.uninstall(scope, name)
    if gone is None:
        raise click.ClickException(f"there is no unit {systemd.paths(scope, name)[0]}")
    manager = "systemctl --user" if scope == "user" else "systemctl"
    say(f"removed {gone}; to end what runs of it:\n  {manager} stop {gone.name}\n  {manager} daemon-reload")


def _say_ready() -> None:
    say("ready")


@click.command()
@click.option("--name", callback=_name, help="What the worker's id begins with; the host's name by default.")
@click.option(
    "--tenant",
    "tenants",
    multiple=True,
    metavar="TENANT",
    help="Serve this tenant; repeatable. One alone: its isolated jobs. By default the worker serves all.",
)
@click.option(
    "--exclude-tenant",
    "excluded",
    multiple=True,
    metavar="TENANT",
    help="Never run this tenant's jobs; repeatable.",
)
@click.option(
    "--capability",
    multiple=True,
    metavar="KEY=VALUE",
    help="Declare an ability, such as gpu.memory_gb=24; repeatable.",
)
@click.option(
    "--capabilities",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="JSON file of abilities; read again on SIGHUP.",
)
@click.option(
    "--handlers",
    multiple=True,
    metavar="MODULE:NAME",
    help="Handlers of your own; repeatable. Built-in kinds run beside them with --kinds.",
)
@click.option(
    "--connector",
    "connectors",
    multiple=True,
    metavar="KIND[:ID]",
    help="An instance of a connector, with the settings of that id in the file of settings or "
    "SWITCHYARD_CONNECTORS; repeatable.",
)
@click.option(
    "--rest",
    metavar="URL",
    help="Claim jobs over REST at this gateway, without a broker; the token stands in SWITCHYARD_TOKEN.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that holds the token or API key for --rest.",
)
@click.option(
    "--drain-within",
    type=click.FloatRange(0, LONGEST_S),
    metavar="SECONDS",
    help="Seconds that running jobs have after SIGTERM; then they are given back, uncounted.",
)
@click.option(
    "--exit-when-idle",
    type=click.FloatRange(0, LONGEST_S),
    metavar="SECONDS",
    help="End with exit code 0 after so many seconds without a job.",
)
@click.option(
    "--install-service",
    type=click.Choice(["user", "system"]),
    help="Write a systemd unit that runs this command, and a file with its environment.",
)
@click.option(
    "--uninstall-service", type=click.Choice(["user", "system"]), help="Remove the unit of that name again."
)
@click.option("--run-as", metavar="USER", help="Who runs the system's service; who called sudo by default.")
@click.option("--print", "show", is_flag=True, help="With --install-service: print the unit, write nothing.")
@click.option("--reload", is_flag=True, help="Read handlers again when their files change: for development.")
@options.data_dir
@options.slots
@options.kinds
@options.nats
@options.lease
def worker(  # noqa: PLR0917 - click passes options by name
    name: str | None,
    tenants: tuple[str, ...],
    excluded: tuple[str, ...],
    capability: tuple[str, ...],
    file: Path | None,
    handlers: tuple[str, ...],
    connectors: tuple[str, ...],
    rest: str | None,
    token_file: Path | None,
    drain_within: float | None,
    exit_when_idle: float | None,
    install_service: systemd.Scope | None,
    uninstall_service: systemd.Scope | None,
    run_as: str | None,
    show: bool,
    reload: bool,
    data_dir: Path | None,
    slots: int | None,
    kinds: str | None,
    nats: str | None,
    lease: float | None,
) -> None:
    """Run a worker; SIGTERM drains it, SIGHUP reads its abilities again."""
    start = Start()
    if os.environ.get(older_worker.REDIS):
        raise click.UsageError(older_worker.REFUSED)
    settings = options.settings_of(
        older="taken", data_dir=data_dir, slots=slots, nats_url=nats, lease_s=lease, worker_name=name,
        drain_grace_s=drain_within, exit_when_idle_s=exit_when_idle,
    )  # fmt: skip
    name = settings.worker_name
    idle_s = settings.exit_when_idle_s
    _check_service(install_service, uninstall_service, run_as=run_as, show=show, reload=reload)
    if uninstall_service is not None:
        _uninstall(uninstall_service, name or SERVICE)
        return
    if rest is not None:
        _refuse_with_rest({"--reload": reload, "--nats": nats is not None})
    elif token_file is not None:
        raise click.UsageError("--token-file needs --rest")
    try:
        tenancy = tenancy_of(tenants or settings.tenants, excluded or settings.exclude_tenants)
    except InvalidError as error:
        raise click.UsageError(str(error)) from None
    names = instances(kinds, connectors, settings, handlers=bool(handlers))
    if reload and not handlers:
        raise click.UsageError("--reload needs --handlers")
    if reload and idle_s is not None:
        raise click.UsageError("--exit-when-idle and --reload cannot be had together")
    handlers_of(handlers)  # as above
    declared(file, capability)
    if install_service is not None:
        if rest is not None:
            gateway_of(rest, token_file, settings.data_dir)
        _install(
            systemd.service_of(
                install_service, name=name or SERVICE, words=sys.orig_argv, drain_s=settings.drain_grace_s,
                ends_by_itself=idle_s is not None, run_as=run_as,
            ),
            show=show,
        )  # fmt: skip
        return
    machine = machine_of(settings)
    if rest is not None:
        connection = gateway_of(rest, token_file, settings.data_dir)
        try:
            run_rest_worker(
                settings, connection, kinds=names, handlers=handlers, name=name, tenancy=tenancy,
                capabilities=lambda: declared(file, capability), ready=_say_ready, machine=machine,
                idle_s=idle_s,
            )  # fmt: skip
        except StuckError:
            start.again()
        return
    settings = options.with_broker(settings)

    async def main() -> bool:
        stop = stopping.stop_on_signals()
        return await run_worker(
            settings, stop, kinds=names, handlers=handlers, reload=reload, name=name, tenancy=tenancy,
            capabilities=lambda: declared(file, capability), ready=_say_ready, machine=machine, idle_s=idle_s,
        )  # fmt: skip

    if loops.run(main(), contain=True):
        start.again()
