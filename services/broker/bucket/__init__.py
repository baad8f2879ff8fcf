"""A bucket: typed entries by key, in the stream `KV_<name>` that `streams.json` lays out.

    NOTES: Final = Form(name="notes", parts=("tenant", "name"), values=json_values(Note), gone=Gone("PURGE"))

    bucket = Bucket(nc, NOTES, publisher, timeout_s=5.0)
    made = await bucket.create(("acme", "one"), Note("hi"))         # VersionConflictError: it is there
    await bucket.put(made.key, Note("ho"), revision=made.revision)  # compare and set; without: in any case
    found = await bucket.get(("acme", "one"))                       # value None, revision 0 for nothing
    await bucket.delete(found.key, revision=found.revision)         # leaves the marker that `gone` says
    notes = await bucket.load("acme")                               # those of a tenant, oldest first

    mirror = Mirror(bucket, on_change=lambda entry: print(entry.key, entry.value))
    await mirror.load()                                             # complete when this returns,
    group.create_task(mirror.run())                                 # and current from then on
    mirror.get(("acme", "one"))                                     # the value, or None

A key is a tuple of as many texts as the form has `parts`; any characters may stand in them. A form with
`under` has a part of its bucket alone. An entry that cannot be read, or whose key is none, stands for
nothing: it is set aside by reference (`services/broker/quarantine.py`), and a write may take its place.
"""

from switchyard.services.broker.bucket.bucket import Bucket
from switchyard.services.broker.bucket.form import (
    Codec,
    Entry,
    Form,
    Gone,
    Key,
    Lasting,
    is_gone,
    json_values,
    lasting_values,
)
from switchyard.services.broker.bucket.mirror import Mirror, follow

__all__ = [
    "Bucket", "Codec", "Entry", "Form", "Gone", "Key", "Lasting", "Mirror", "follow", "is_gone",
    "json_values", "lasting_values",
]  # fmt: skip
