"""Who gets a place while others have theirs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.errors import Busy, KeyBusy
from agentgw.gateway.http.places import Places


def filled(places: Places, *keys: str) -> dict[str, int]:
    """Each of them takes in turn what it gets; how many that are."""
    held = dict.fromkeys(keys, 0)
    going_on = set(keys)
    while going_on:
        for key in sorted(going_on):
            try:
                places.take("POST", key)
            except (Busy, KeyBusy):
                going_on.discard(key)
            else:
                held[key] += 1
    return held


@given(st.integers(2, 2000), st.data())
def test_a_key_alone_comes_to_its_bound(limit: int, data: st.DataObject) -> None:
    per_key = data.draw(st.integers(1, limit + 5))
    assert filled(Places(limit, per_key), "ann") == {"ann": min(limit, per_key)}


@pytest.mark.parametrize(("keys", "most"), [(2, 860), (3, 903), (10, 971)])
def test_keys_together_leave_room_for_the_next(keys: int, most: int) -> None:
    places = Places(1000, 750)
    names = [f"key-{number}" for number in range(keys)]
    held = filled(places, *names)
    assert max(held.values()) - min(held.values()) <= 1
    assert sum(held.values()) <= most
    assert filled(places, "late")["late"] >= (1000 - most) // 2
    with pytest.raises(KeyBusy):
        places.take("POST", names[0])


def test_a_key_that_has_much_gets_no_more_while_others_need_room() -> None:
    places = Places(8, 6)
    for _ in range(4):
        places.take("POST", "ann")
    for _ in range(3):
        places.take("POST", "")  # of nobody with a bound
    with pytest.raises(KeyBusy):
        places.take("POST", "ann")
    places.take("POST", "bob")
    with pytest.raises(Busy):
        places.take("POST", "carol")
    for who in ("", "", ""):
        places.give_back(0, who)
    places.take("POST", "ann")


@given(st.integers(1, 12), st.integers(1, 14), st.lists(st.sampled_from(["", "ann", "bob", "carol"])))
def test_whoever_has_none_gets_a_free_one(limit: int, per_key: int, takers: list[str]) -> None:
    places = Places(limit, per_key)
    held: list[str] = []
    for who in takers:
        try:
            places.take("POST", who)
        except Busy:
            assert len(held) == limit
        except KeyBusy:
            assert who in held
        else:
            held.append(who)
            assert len(held) <= limit
            assert not who or held.count(who) <= per_key
    for who in held:
        places.give_back(0, who)
    assert filled(places, "") == {"": limit}


def test_without_a_bound_one_key_may_have_all() -> None:
    assert filled(Places(10, 10), "ann") == {"ann": 10}
