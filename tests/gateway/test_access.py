"""Who may come in: credentials to principals."""

import base64
import time
from hashlib import sha256

import pytest

from agentgw.gateway.access import NOBODY, Access, Key
from agentgw.gateway.errors import Unauthenticated
from agentgw.gateway.model import Principal


def key(secret: str = "agw_1_secret", **fields) -> Key:
    fields = {"name": "ci", "id": "1", **fields}
    return Key(hash=sha256(secret.encode()).hexdigest(), **fields)


def bearer(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


def refused(access: Access, header: bytes | None) -> bool:
    try:
        access.grant(header)
    except Unauthenticated:
        return True
    return False


def test_without_keys_callers_of_this_machine_are_let_in_as_admins():
    assert Access("owner").grant(None).principal == Principal(admin=True)


def test_without_keys_callers_from_elsewhere_are_no_admins():
    assert Access("owner", local=False).grant(None).principal == Principal()


def test_without_keys_a_foreign_header_is_ignored():
    access = Access("owner")
    for header in (b"Bearer something", b"Basic eDp5", b"", b"Bearer"):
        assert access.grant(header).principal.id == "anonymous"


def test_the_owner_token_is_the_owners_with_and_without_keys():
    access = Access("owner")
    assert access.grant(b"Bearer owner").principal.owner
    access.take([key()])
    assert access.grant(b"bearer  owner ").principal.owner


def test_no_owner_token_makes_nobody_the_owner():
    access = Access("", open=False)
    assert refused(access, b"Bearer ")


def test_where_it_is_not_open_nobody_comes_in_even_without_keys():
    access = Access("owner", open=False)
    assert access.closed
    assert refused(access, None)


def test_with_one_key_every_caller_needs_one():
    access = Access("owner")
    access.take([key(agents=("a", "b"))])
    assert access.grant(bearer("agw_1_secret")).principal == Principal(
        id="key:1", agents=frozenset({"a", "b"}), name="ci"
    )
    assert refused(access, None)
    assert refused(access, bearer("agw_1_other"))
    assert refused(access, b"agw_1_secret")


@pytest.mark.parametrize("end", [{"revoked_at": 1.0}, {"expires_at": 1.0}])
def test_a_key_that_has_ended_lets_nobody_in_and_does_not_open_the_doors(end):
    access = Access("owner")
    access.take([key(**end)])
    assert refused(access, bearer("agw_1_secret"))
    assert refused(access, None)


def test_without_its_last_key_the_gateway_is_open_again():
    access = Access("owner")
    access.take([key()])
    access.take([])
    assert not access.closed
    assert access.grant(None).principal.id == "anonymous"


def test_a_key_is_no_longer_good_when_its_time_has_come(monkeypatch):
    access, now = Access("owner"), time.time()
    access.take([key(expires_at=now + 60)])
    grant = access.grant(bearer("agw_1_secret"))
    assert grant.holds(now)
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert refused(access, bearer("agw_1_secret"))
    assert not grant.holds(now + 61)


def test_what_was_granted_stays_while_the_key_does_and_ends_with_it():
    access = Access("owner")
    ended: list[int] = []
    access.on_end(lambda: ended.append(1))
    access.take([key(), key("other", id="2", name="other")])
    grant, other = access.grant(bearer("agw_1_secret")), access.grant(bearer("other"))
    access.take([key(revoked_at=1.0), key("other", id="2", name="other")])
    access.tick()
    assert (grant.ended, other.ended) == (True, False)
    assert access.grant(bearer("other")) is other
    assert ended


def test_who_came_in_without_a_key_is_out_with_the_first_one():
    access = Access("owner")
    grant = access.grant(None)
    access.take([key()])
    assert not grant.holds(0)


def test_the_end_of_a_time_is_told_once(monkeypatch):
    access, now = Access("owner"), time.time()
    access.take([key(expires_at=now + 60)])
    access.tick()
    ended: list[int] = []
    access.on_end(lambda: ended.append(1))
    access.tick()
    assert not ended
    monkeypatch.setattr(time, "time", lambda: now + 61)
    access.tick()
    access.tick()
    assert len(ended) == 1


def test_whether_somebody_stands_still_is_known_by_the_id(monkeypatch):
    access = Access("owner")
    assert access.stands("anonymous")
    access.take([key(), key("agw_2", name="short", id="2", expires_at=time.time() + 60)])
    assert [access.stands(id) for id in ("key:1", "key:2", "key:3", "owner")] == [True, True, False, True]
    assert not access.stands("anonymous")
    assert access.stands("https://issuer.example#ann")  # who may have another token
    access.take([key(revoked_at=1.0), key("agw_2", name="short", id="2", expires_at=time.time() + 60)])
    assert [access.stands(id) for id in ("key:1", "key:2")] == [False, True]
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert not access.stands("key:2")


def test_a_browser_sends_a_key_as_password():
    access = Access("owner")
    access.take([key()])
    coded = base64.b64encode(b"anyone:agw_1_secret")
    assert access.password(b"Basic " + coded).principal.id == "key:1"
    for wrong in (b"Basic ???", b"Basic " + base64.b64encode(b"agw_1_secret"), None, b"Basic"):
        with pytest.raises(Unauthenticated):
            access.password(wrong)
    assert refused(access, b"Basic " + coded)


def test_what_is_public_names_no_agent():
    assert Access("owner").public.principal is NOBODY
    assert not NOBODY.reaches("a")
    assert not NOBODY.admin


def test_schemes_are_stated_while_a_key_is_wanted():
    access = Access("owner")
    assert access.schemes == {}
    access.take([key()])
    assert access.schemes == {"bearer": ""}
    assert access.schemes is access.schemes
