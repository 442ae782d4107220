"""Numbers by ids: as a dictionary has them, in room that does not grow as they come and go."""

from __future__ import annotations

import random
import sys

import pytest

from agentgw.registry import numbers
from agentgw.registry.numbers import Numbers


@pytest.mark.parametrize("most", [8, 100])
def test_they_are_what_a_dictionary_has(most: int) -> None:
    rand, found, known = random.Random(most), Numbers(most), dict[str, int]()
    for number in range(1, 20_000):
        id = f"task-{rand.randrange(3 * most)}"
        if id in known and rand.random() < 0.7:
            found.drop(id)
            del known[id]
        else:
            found.put(id, number)
            known[id] = number
        assert len(found) == len(known)
        other = f"task-{rand.randrange(3 * most)}"
        assert found.get(other) == known.get(other)
    assert {id: found.get(id) for id in known} == known


def test_ids_that_fall_on_one_place_are_found_when_others_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "hash", lambda id: int(id), raising=False)
    found = Numbers(4)
    ids = ["6", "14", "7", "22", "8", "15"]  # of eight places all want the last two and the first
    for number, id in enumerate(ids, 1):
        found.put(id, number)
    for number, id in enumerate(ids, 1):
        assert found.get(id) == number
        found.drop(id)
        assert found.get(id) is None
        assert [found.get(other) for other in ids[number:]] == list(range(number + 1, len(ids) + 1))
    found.drop("6")
    assert len(found) == 0


def test_room_is_there_from_the_start() -> None:
    found = Numbers(1000)
    room = sys.getsizeof(found._keys) + sys.getsizeof(found._numbers)  # pyright: ignore[reportPrivateUsage]
    for number in range(1, 10_000):
        found.put(f"task-{number}", number)
        if number > 1000:
            found.drop(f"task-{number - 1000}")
    assert len(found) == 1000
    assert sys.getsizeof(found._keys) + sys.getsizeof(found._numbers) == room  # pyright: ignore[reportPrivateUsage]
