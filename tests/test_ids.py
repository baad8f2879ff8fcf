"""Ids are UUIDs of the versions that they claim."""

from __future__ import annotations

import time
from uuid import RFC_4122, UUID

from switchyard.services.ids import id_for_key, new_id


def test_new_id_is_a_version_7_uuid_of_this_moment() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_id() for _ in range(2000)]
    after = time.time_ns() // 1_000_000
    for text in ids:
        value = UUID(text)
        assert str(value) == text
        assert (value.version, value.variant) == (7, RFC_4122)
        assert before <= value.int >> 80 <= after
    assert len(set(ids)) == len(ids)
    assert {text[19] for text in ids} == set("89ab")


def test_key_stands_for_one_job_of_its_tenant() -> None:
    assert id_for_key("acme", "k") == id_for_key("acme", "k")
    assert len({id_for_key("acme", "k"), id_for_key("acme", "l"), id_for_key("emca", "k")}) == 3
    assert UUID(id_for_key("acme", "k")).version == 5
