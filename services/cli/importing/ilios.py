"""`switchyard import ilios`: the documents that an Ilios has converted, with their text and their files."""

from __future__ import annotations

import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import click

from switchyard.errors import ApiError
from switchyard.events.errors import InvalidError
from switchyard.services import clock
from switchyard.services.cli import options
from switchyard.services.cli.client import (
    TRANSFER_S,
    Api,
    connect,
    key_header,
)
from switchyard.services.cli.importing.ilios_database import Document, IliosDatabase
from switchyard.services.cli.importing.originals import Copy, Originals, bucket_of
from switchyard.services.cli.output import print_json, print_table, say
from switchyard.services.file_names import safe

KIND: Final = "ilios-import"
KEY: Final = "ilios.import."
INLINE_BYTES: Final = 64 * 1024
WAIT_S: Final = 10
MARKDOWN: Final = "document.md"
TYPE: Final = re.compile(r"[a-z0-9.+-]{1,100}/[a-z0-9.+-]{1,100}")
OCTETS: Final = "application/octet-stream"
FAILED: Final = "failed"
THERE: Final = frozenset({"completed", "archived"})
OF_ALL: Final = frozenset({401, 403, 503, 507})
OUTCOMES: Final = ("made", "there", "expired", "refused")
WHY_LEFT: Final = "only documents that were converted come over"


@click.command("ilios")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--tenant", default="ilios", show_default=True, help="Whose they become: the door's tenant.")
@click.option(
    "--originals", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A copy of its bucket; the bucket of the settings (S3_BUCKET, AWS_*) by default.",
)  # fmt: skip
@click.option(
    "--without-originals", is_flag=True, help="Bring the texts alone over, without files and names."
)
@click.option("--dry-run", is_flag=True, help="Say what would be brought over, and send nothing.")
@options.as_json
@options.data_dir
def ilios(
    *,
    file: Path,
    tenant: str,
    originals: Path | None,
    without_originals: bool,
    dry_run: bool,
    as_json: bool,
    data_dir: Path | None,
) -> None:
    """Bring the documents over that an Ilios has converted, each under its id and for the rest of its time.

    FILE is its SQLite database, or an SQL export of it. Run again, it passes over what it brought over.
    """
    settings = options.settings_of(data_dir=data_dir)
    files: Originals | None = None
    if not dry_run and not without_originals:
        files = bucket_of(settings) if originals is None else Copy(originals)
        if files is None:
            raise click.UsageError("this needs S3_BUCKET, --originals or --without-originals")
    database = IliosDatabase(file)
    try:
        run = Run(tenant, database, files)
        if dry_run:
            run.look()
        else:
            options.run(run.all(connect(settings.data_dir)))
        left = database.left()
    finally:
        database.close()
    if as_json:
        print_json({"dry_run": dry_run, **run.summary(left)})
    else:
        run.say(left, dry_run=dry_run)
    if run.refused:
        raise click.exceptions.Exit(1)


class Run:
    """One import, and what became of its documents.

    A document becomes a job that can be erased, which this command takes and ends itself with the text; a
    run that was broken off leaves at most one that waits, which the next one ends.

    Args:
        tenant: whose they become.
        database: has them.
        originals: their files; None where they stay there.
    """

    def __init__(self, tenant: str, database: IliosDatabase, originals: Originals | None) -> None:
        self._of_tenant = {"tenant": tenant}
        self._database = database
        self._originals = originals
        self._api: Api
        self._scratch: Path
        self.counts = Counter[str]()
        self.refused: list[dict[str, str]] = []

    def look(self) -> None:
        """Count what would be sent."""
        for _ in self._good():
            self.counts["made"] += 1

    async def all(self, api: Api) -> None:
        """Send them, one after the other."""
        async with AsyncExitStack() as stack:
            self._api = await stack.enter_async_context(api)
            self._scratch = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="switchyard-import-"))
            )
            if self._originals is not None:
                stack.push_async_callback(self._originals.aclose)
            for document in self._good():
                try:
                    self.counts[await self._brought(document)] += 1
                except (ApiError, InvalidError) as error:
                    if isinstance(error, ApiError) and error.status in OF_ALL:
                        raise  # so it would go with the others
                    self._refuse(document, str(error))

    def _good(self) -> Iterator[Document]:
        for document in self._database.converted():
            if document.reason:
                self._refuse(document, document.reason)
            elif document.until <= clock.now():
                self.counts["expired"] += 1
            else:
                yield document

    async def _brought(self, document: Document) -> str:
        status = await self._status(document)
        if status in THERE:
            return "there"
        if status is None:
            await self._submit(document)
        while (status := await self._status(document)) not in THERE:
            if status is None or status == FAILED:
                raise InvalidError("its job was ended by somebody else, or the document door is not open")
            await self._end()
        return "made"

    async def _status(self, document: Document) -> str | None:
        """Where the door says that a document stands; None where it knows none."""
        path = f"/api/documents/status/{document.id}"
        try:
            found = await self._api.call("GET", path, params=self._of_tenant)
        except ApiError as error:
            if error.status != 404:
                raise
            return None
        return str(found["status"])

    async def _submit(self, document: Document) -> None:
        key = KEY + document.id
        left_s = max(60, math.floor((document.until - clock.now()).total_seconds()))
        file = await self._sent(document, key, left_s)
        named = {} if file is None else {"file": file}
        body = {
            "kind": KIND, "payload": {"document": document.id, **named}, "erasable": True, "erase_s": left_s,
            "labels": {"ilios": "convert", "ilios-file": file or "none", "ilios-days": str(document.days)},
        }  # fmt: skip
        await self._api.call("POST", "/v1/jobs", params=self._of_tenant, json=body, headers=key_header(key))

    async def _sent(self, document: Document, key: str, left_s: int) -> str | None:
        """The upload of a document, as it lies in the bucket; None without one."""
        if self._originals is None:
            return None
        path = await self._originals.file(document.s3_key, self._scratch / "original")
        type_ = document.type if TYPE.fullmatch(document.type) else OCTETS
        asked = {**self._of_tenant, "name": safe(document.name), "erasable": "true", "ttl_s": str(left_s)}
        with path.open("rb") as body:
            found = await self._api.call(
                "POST", "/v1/files", body=body, params=asked,
                headers={"Content-Type": type_, **key_header(key)},
                total_s=TRANSFER_S,
            )  # fmt: skip
        return str(found["id"])

    async def _end(self) -> None:
        """Take a job of an import, if one waits, and end it with the text of its document."""
        wish = {"worker": "import", "kinds": [KIND], "wait_s": WAIT_S, **self._of_tenant}
        given = await self._api.call("POST", "/v1/leases", json=wish)
        if not given:
            return
        lease = f"/v1/leases/{given['lease']['id']}"
        headers = {"Switchyard-Lease-Token": given["lease"]["token"]}
        document = self._database.one(str(given["job"]["payload"].get("document")))
        if document is None or document.content is None:  # that of another file
            await self._asked(f"{lease}/release", headers, json={})
            return
        result: dict[str, Any] = {
            "markdown": document.content, "artifact": None, "pages": document.pages, "engine": "ilios",
            "warnings": [],
        }  # fmt: skip
        names = []
        if len(data := document.content.encode("utf-8", "replace")) > INLINE_BYTES:
            typed = {"Content-Type": "text/markdown", **headers}
            saved = await self._asked(f"{lease}/artifacts", typed, body=data, name=MARKDOWN)
            result |= {"markdown": None, "artifact": saved}
            names = [MARKDOWN]
        await self._asked(f"{lease}/succeed", headers, json={"result": result, "artifacts": names})

    async def _asked(
        self, path: str, headers: dict[str, str], *, name: str | None = None, **body: Any
    ) -> Any:
        params = self._of_tenant if name is None else {**self._of_tenant, "name": name}
        return await self._api.call("POST", path, params=params, headers=headers, **body)

    def _refuse(self, document: Document, reason: str) -> None:
        self.counts["refused"] += 1
        self.refused.append({"id": document.id, "reason": reason})

    def summary(self, left: Counter[str]) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            "counts": {one: self.counts[one] for one in OUTCOMES}, "refused": self.refused,
            "left": {"rows": dict(left), "reason": WHY_LEFT},
        }  # fmt: skip

    def say(self, left: Counter[str], *, dry_run: bool) -> None:
        """All of it, for people."""
        if dry_run:
            say("nothing was sent; `made` would be, unless it is there already")
        print_table(OUTCOMES, [{one: self.counts[one] for one in OUTCOMES}])
        for one in self.refused:
            say(f"refused: {one['id']}: {one['reason']}")
        for what, count in sorted(left.items()):
            say(f"left: {count} {what}: {WHY_LEFT}")
