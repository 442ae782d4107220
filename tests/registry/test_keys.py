"""Keys: made, kept as hashes, revoked."""

import time

import pytest

from agentgw.gateway.access import SPACE, Access
from agentgw.gateway.control import AddKey, UnknownKey
from agentgw.gateway.errors import InvalidRequest, Unauthenticated
from agentgw.registry.keys import Keys
from agentgw.registry.memory import MemoryStore


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def access():
    return Access("owner")


@pytest.fixture
def keys(store, access):
    made = Keys(store)

    async def changed(all):
        access.take(all)

    made.changed = changed
    return made


async def test_a_new_key_is_good_at_once(keys, access):
    new = await keys.create(AddKey(name="ci", agents=["b", "a", "a"]))
    principal = access.grant(f"Bearer {new.secret}".encode()).principal
    assert (principal.id, principal.name) == (f"key:{new.id}", "ci")
    assert principal.agents == {"a", "b"}


async def test_a_key_has_its_rate_for_good(keys, access, store):
    new = await keys.create(AddKey(name="ci", rate=20.0))
    await keys.create(AddKey(name="usual"))
    assert new.rate == 20
    assert [(k.name, k.rate) for k in await keys.list()] == [("ci", 20.0), ("usual", None)]
    assert access.grant(f"Bearer {new.secret}".encode()).rate == 20
    later = Access("owner")
    later.take(await Keys(store).all())
    assert later.grant(f"Bearer {new.secret}".encode()).rate == 20


async def test_no_secret_is_kept(keys, store):
    new = await keys.create(AddKey(name="ci"))
    kept = b"".join((await store.items(SPACE)).values())
    assert new.secret.encode() not in kept
    assert new.secret.split("_", 2)[2].encode() not in kept


async def test_keys_are_long_and_each_another(keys):
    secrets = {(await keys.create(AddKey(name=f"k{n}"))).secret for n in range(20)}
    assert len(secrets) == 20
    assert all(len(secret.split("_", 2)[2]) >= 43 for secret in secrets)


async def test_a_revoked_key_is_listed_and_lets_nobody_in(keys, access):
    new = await keys.create(AddKey(name="ci"))
    assert (await keys.revoke("ci")).state == "revoked"
    with pytest.raises(Unauthenticated):
        access.grant(f"Bearer {new.secret}".encode())
    assert [(k.name, k.state) for k in await keys.list()] == [("ci", "revoked")]


async def test_a_name_is_taken_again_after_its_key_was_revoked(keys, access):
    old = await keys.create(AddKey(name="ci"))
    with pytest.raises(InvalidRequest, match="already"):
        await keys.create(AddKey(name="ci"))
    await keys.revoke("ci")
    new = await keys.create(AddKey(name="ci"))
    assert new.id != old.id
    assert access.grant(f"Bearer {new.secret}".encode()).principal.id == f"key:{new.id}"
    with pytest.raises(Unauthenticated):
        access.grant(f"Bearer {old.secret}".encode())


async def test_a_removed_key_is_forgotten(keys, access):
    await keys.create(AddKey(name="ci"))
    await keys.remove("ci")
    assert await keys.list() == []
    assert not access.closed


@pytest.mark.parametrize("action", ["revoke", "remove"])
async def test_an_unknown_key_is_named(keys, action):
    with pytest.raises(UnknownKey, match="none"):
        await getattr(keys, action)("none")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": ""},
        {"name": "../x"},
        {"name": "x" * 65},
        {"name": "ci", "agents": []},
        {"name": "ci", "agents": ["No Agent"]},
        {"name": "ci", "expires_at": 1.0},
        {"name": "ci", "rate": -1.0},
        {"name": "ci", "rate": float("inf")},
        {"name": "ci", "rate": float("nan")},
    ],
    ids=[
        "no name",
        "path",
        "too long",
        "no agents",
        "no agent's name",
        "expired",
        "less than none",
        "endless",
        "no number",
    ],
)
async def test_what_can_not_be_made_is_refused(keys, wrong):
    with pytest.raises(InvalidRequest):
        await keys.create(AddKey(**wrong))
    assert await keys.list() == []


async def test_an_expired_key_is_shown_as_such(keys, monkeypatch):
    now = time.time()
    await keys.create(AddKey(name="ci", expires_at=now + 60))
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert [k.state for k in await keys.list()] == ["expired"]
