"""Ids that are no UUIDs come out as the same ones as ever: what is stored is found by them."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.acp.ids import as_uuid, is_uuid

NAMES = uuid.UUID("5f6c0b2e-3a5c-4d0e-9a67-6d1c5f1b7a10")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(TEXT.filter(lambda text: not is_uuid(text)), TEXT)
def test_a_name_is_a_uuid_of_version_5(text: str, salt: str) -> None:
    assert as_uuid(text, salt) == str(uuid.uuid5(NAMES, f"{salt}\0{text}"))


@given(st.uuids())
def test_a_uuid_stays_unless_it_is_salted(given: uuid.UUID) -> None:
    assert as_uuid(str(given).upper()) == str(given)
    assert as_uuid(str(given), "key:1") == str(uuid.uuid5(NAMES, f"key:1\0{given}"))
