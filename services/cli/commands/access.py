"""Commands about tokens."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import Path

import click
import jwt
import msgspec

from switchyard.events.errors import NotFoundError, SwitchyardError
from switchyard.services import clock
from switchyard.services.access.jwt import SECRET_FILE, TokenId, load_or_create_secrets, mint, rotate_secrets
from switchyard.services.access.principal import Role
from switchyard.services.access.revocations import revoke as revoke_token
from switchyard.services.broker.publisher import Publisher
from switchyard.services.cli import options
from switchyard.services.cli.options import Duration
from switchyard.services.cli.output import say
from switchyard.services.run.broker import connected
from switchyard.services.settings import Settings

ROLES = tuple(role.value for role in Role)
LEARN_S = 2.0
FALLBACK_TTL_S = 3650 * 86400.0
EXAMPLE = "switchyard token --tenant acme --role submitter"


@click.group(invoke_without_command=True)
@click.option("--tenant", help="Whose jobs the token is for; required.")
@click.option("--role", multiple=True, type=click.Choice(ROLES), help="What it allows; required, repeatable.")
@click.option("--ttl", type=Duration(), default="1h", help="How long it is valid: 30s, 15m, 1h, 7d.")
@click.option("--subject", default="user", help="Who holds it; it stands in the events.")
@options.data_dir
@click.pass_context
def token(
    context: click.Context,
    tenant: str | None,
    role: tuple[str, ...],
    ttl: float,
    subject: str,
    data_dir: Path | None,
) -> None:
    """Mint a token with the secret of a data directory that a gateway uses.

    It takes a tenant and at least one role: `switchyard token --tenant acme --role submitter --ttl 7d`.
    """
    if context.invoked_subcommand is not None:
        return
    if missing := [name for name, value in (("--tenant", tenant), ("--role", role)) if not value]:
        verb = "is" if len(missing) == 1 else "are"
        raise click.UsageError(f"{' and '.join(missing)} {verb} missing, as in `{EXAMPLE}`")
    assert tenant is not None
    secret = load_or_create_secrets(_with_secret(data_dir))[0]
    options.run(_learn_time(options.settings_of(data_dir=data_dir)))
    say(mint(secret, tenant=tenant, roles=role, ttl_s=ttl, subject=subject))


async def _learn_time(settings: Settings) -> None:
    """Learn the broker's time, by which a token is judged, where a broker is known and answers soon."""
    settings = settings.model_copy(update={"request_timeout_s": LEARN_S})
    with contextlib.suppress(SwitchyardError):
        async with connected(options.with_broker(settings), "cli"):
            pass


def _with_secret(data_dir: Path | None) -> Path:
    """The data directory, whose secret some gateway must have made: a token of another would open nothing.

    Raises:
        NotFoundError: it has none.
    """
    found = options.settings_of(data_dir=data_dir).data_dir
    if not (found / SECRET_FILE).exists():
        raise NotFoundError(
            f"{found} has no secret: `switchyard up` or `switchyard gateway` makes it; is --data-dir right?"
        )
    return found


@token.command()
@click.argument("token_or_id")
@click.option("--outside", is_flag=True, help="It is the id of a token of an outside signer, of any form.")
@options.yes
@options.data_dir
@options.nats
def revoke(token_or_id: str, outside: bool, yes: bool, data_dir: Path | None, nats: str | None) -> None:
    """Take a token back, by the token or its id (`jti`); every gateway knows at once."""
    token_id, expires_at = _id_and_end(token_or_id, outside=outside)
    options.ask_person(f"Revoke token {token_id} for ever?", yes=yes)
    settings = options.with_broker(options.settings_of(data_dir=data_dir, nats_url=nats))

    async def main() -> None:
        async with connected(settings, "cli") as nc, Publisher(nc) as publisher:
            await revoke_token(publisher, token_id, expires_at=expires_at, by="cli")

    options.run(main())
    say(f"revoked {token_id}")


def _id_and_end(token_or_id: str, *, outside: bool) -> tuple[str, float]:
    """The id of a token, and the time until which it is to be refused.

    Nobody keeps a list of tokens, so an id is judged by its form: ours are UUIDs.

    Raises:
        click.BadParameter: it can be no token's.
    """
    token_id, latest = token_or_id, clock.time_s() + FALLBACK_TTL_S
    expires_at = latest
    try:
        if token_or_id.count(".") == 2:
            claims = jwt.decode(token_or_id, options={"verify_signature": False})
            token_id, expires_at = str(claims["jti"]), min(latest, float(claims["exp"]))
        elif not outside:
            token_id = str(uuid.UUID(token_or_id))
        token_id = msgspec.convert(token_id, TokenId)
    except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
        why = f"is neither a token nor the id of one of ours, which is a UUID ({error}); see --outside"
        raise click.BadParameter(why, param_hint="TOKEN_OR_ID") from None
    return token_id, expires_at


@token.command()
@options.yes
@options.data_dir
def rotate(yes: bool, data_dir: Path | None) -> None:
    """Make a new signing secret; tokens of the one before stay valid until the next rotation."""
    where = _with_secret(data_dir)
    options.ask_person("Make a new secret? Tokens of the one before the present one end.", yes=yes)
    rotate_secrets(where)
    say("rotated; new tokens are signed with the new secret")
