"""The file that a nats-server includes: accounts, users and what each may do, from the table.

Between accounts an answer may come for two minutes after the last one; pulls of ours wait 30 seconds.

Source: the nats-server's documentation of accounts, `mappings`, exports and imports; tried on 2.15.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from switchyard.services.broker.jetstream import LOCAL_API, api_subject
from switchyard.services.broker.rights.grants import Right, Rights
from switchyard.services.broker.rights.nkeys import inbox_prefix
from switchyard.services.broker.rights.table import Part, rights_of

ACCOUNT: Final = "SWITCHYARD"
"""The account that has the streams."""
OF_WORKERS: Final = "SWITCHYARD_WORKER_"
"""What the account of a worker begins with; its name follows."""
MARK: Final = "# Made by `switchyard nats-config`, which writes it again: change nothing here. sha256:"
_API: Final = api_subject("")


def server_file(parts: Mapping[Part, str], workers: Mapping[str, str]) -> str:
    """The whole file.

    Args:
        parts: the public key of each part.
        workers: the public key of each worker, by its name.
    """
    body = (
        "accounts {\n" + _streams(parts) + "".join(_worker(*one) for one in sorted(workers.items())) + "}\n"
    )
    return f"{MARK} {_digest(body)}\n{body}"


def is_untouched(text: str) -> bool:
    """Whether a file is as it was written."""
    first, _, body = text.partition("\n")
    return first == f"{MARK} {_digest(body)}"


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _streams(parts: Mapping[Part, str]) -> str:
    worker = rights_of("worker")
    users = "".join(_user(rights_of(part), key, f"the {part}") for part, key in sorted(parts.items()))
    services = "".join(
        f'      {{ service: "{right.subject}", response_type: {"stream" if right.answers else "singleton"} }}'
        "\n"
        for right in _imported(worker)
    )
    heard = "".join(f'      {{ stream: "{right.subject}" }}\n' for right in worker.subscribe)
    return (
        f"  {ACCOUNT} {{\n    jetstream: enabled\n    users [\n{users}    ]\n"
        f"    exports [\n{services}{heard}    ]\n  }}\n"
    )


def _worker(name: str, key: str) -> str:
    rights = rights_of("worker")
    services = "".join(_service(right) for right in _imported(rights))
    heard = "".join(
        f'      {{ stream: {{ account: {ACCOUNT}, subject: "{right.subject}" }} }}\n'
        for right in rights.subscribe
    )
    return (
        f"  {OF_WORKERS}{name} {{\n"
        f'    mappings {{ "{_API}>": "{LOCAL_API}>" }}\n'
        f"    users [\n{_user(_with_local(rights), key, f'the worker {name}')}    ]\n"
        f"    imports [\n{services}{heard}    ]\n  }}\n"
    )


def _with_local(rights: Rights) -> Rights:
    """Those of a worker, where they are looked at: behind its account's mapping."""
    local = (right._replace(subject=_local(right.subject)) for right in rights.publish)
    return rights._replace(publish=tuple(sorted({*rights.publish, *local})))


def _local(subject: str) -> str:
    return LOCAL_API + subject.removeprefix(_API) if subject.startswith(_API) else subject


def _service(right: Right) -> str:
    local = _local(right.subject)
    to = f', to: "{local}"' if local != right.subject else ""
    return f'      {{ service: {{ account: {ACCOUNT}, subject: "{right.subject}" }}{to} }}\n'


def _imported(rights: Rights) -> list[Right]:
    """What a worker's account has of the other one; the broker itself answers the rest in any account."""
    return [right for right in rights.publish if not right.subject.startswith("$SYS.")]


def _user(rights: Rights, key: str, who: str) -> str:
    publish = _listed(right.subject for right in rights.publish)
    subscribe = _listed([*(right.subject for right in rights.subscribe), f"{inbox_prefix(key)}.>"])
    # Whoever is asked may answer, once.
    return (
        f"      {{ # {who}\n        nkey: {key}\n        permissions {{\n          allow_responses: true\n"
        f"          publish {{ allow: [\n{publish}          ] }}\n"
        f"          subscribe {{ allow: [\n{subscribe}          ] }}\n        }}\n      }}\n"
    )


def _listed(names: Iterable[str]) -> str:
    return "".join(f'            "{name}"\n' for name in names)
