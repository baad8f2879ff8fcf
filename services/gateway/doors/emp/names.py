"""What emp-redis calls things, and what they are called here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from switchyard.events.errors import InvalidError
from switchyard.events.job import Job
from switchyard.events.subjects import JOB_ID, MAX_NAME, is_name
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.connectors.registry import CONNECTORS
from switchyard.services.ids import id_for_key

ID: Final = "emp-id"
"""The label with the id that a client gave a job."""
TYPE: Final = "emp-type"
"""The label with a job's type as it was sent."""
CLIENT: Final = "emp-client"
"""The label that names who submitted a job."""
GENERATION: Final = "emp-api"
"""The label with the generation of the protocol in which a job came."""
PRIORITY: Final = "emp-priority"
"""The label with a priority as it was sent, where that is another one here."""
CUSTOMER: Final = "emp-customer"
PYTHON: Final = "python"
TYPESCRIPT: Final = "typescript"
ID_CHARS: Final = 200
OWN: Final = "emp-"
"""Before the job types that are also kinds of ours, whose payloads have another form."""
THROUGH: Final = frozenset({"rest", "emp"})
_OTHER: Final = re.compile(r"[^a-z0-9_-]+")


def kind_of(job_type: str) -> str:
    """The kind of jobs of a type; a worker that serves the type serves the kind.

    Raises:
        InvalidError: it has no letter or digit, or too many characters.
    """
    name = _OTHER.sub("-", job_type.lower()).strip("-_")
    if name in CONNECTORS:
        name = OWN + name
    if not is_name(name):
        rule = f"a type of 1 to {MAX_NAME} characters with a letter or digit was expected"
        raise InvalidError(f"job_type: {rule}", field="job_type")
    return name


def types_of(kinds: Iterable[str]) -> list[str]:
    """The types that kinds are."""
    return [kind.removeprefix(OWN) if kind.removeprefix(OWN) in CONNECTORS else kind for kind in kinds]


def type_of(job: Job) -> str:
    """A job's type as it was sent; the kind of one that came by another door."""
    return job.labels.get(TYPE) or job.kind


def sent_id(job: Job) -> str:
    """A job's id as its client knows it."""
    return job.labels.get(ID) or job.id


def key_of(sent: str) -> str:
    """What stands for an id that a client gives a job.

    Raises:
        InvalidError: it is no text of 1 to 200 characters that can be shown.
    """
    if not 0 < len(sent) <= ID_CHARS or not sent.isprintable():
        raise InvalidError(f"job_id: 1 to {ID_CHARS} printable characters were expected", field="job_id")
    return f"emp\0{sent}"


def candidates(tenant: str, sent: Any) -> list[JobId]:
    """The jobs that an id may mean: the one that a client gave it, or the one that it is the id of.

    Raises:
        InvalidError: as for `key_of`.
    """
    if not isinstance(sent, str):
        raise InvalidError("job_id: a text was expected", field="job_id")
    found = [id_for_key(tenant, key_of(sent))]
    return [*found, JobId(sent)] if JOB_ID.fullmatch(sent) else found


def worker_of(worker: str) -> str:
    """A worker's id as its peers know it: one that comes through a gateway has its tenant before that."""
    tokens = worker.split(".", 2)
    return tokens[2] if len(tokens) == 3 and tokens[0] in THROUGH else worker


def label_of(text: str) -> str:
    """A text as the value of a label; a digest where it is too long for one."""
    return text if len(text) <= ID_CHARS else hashlib.sha256(text.encode()).hexdigest()


def customer_of(labels: Mapping[str, str]) -> str | None:
    """Whose job it is, as its client said."""
    return labels.get(CUSTOMER)
