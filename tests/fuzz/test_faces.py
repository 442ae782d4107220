"""Whatever comes in at a door: an answer in the door's protocol, never a crash, a hang or a word about the
inside."""

from __future__ import annotations

import pytest
from hypothesis import given

from ..support.examples import examples
from .asking import DOORS, requests
from .world import Ask, World

FRESH = 20  # requests after which there are new tasks to be asked about
# The agents behind behave: what they are made to say through a door's request is theirs to answer for.
ALLOWED = (500, 502, 504)


@pytest.mark.parametrize("door", DOORS)
def test_what_comes_in_at_a_door(door: str) -> None:
    with World() as world:
        asked = 0

        @examples(120)
        @given(requests(list(DOORS[door]())))
        def comes_in(ask: Ask) -> None:
            nonlocal asked
            if asked % FRESH == 0:
                world.prepare()
            asked += 1
            world.judge(ask, world.ask(ask))

        comes_in()


def test_valid_requests_are_answered() -> None:
    """What the strategies begin with is in order: nothing of it is a server's error."""
    with World() as world:
        for door, valid in DOORS.items():
            world.prepare()
            for ask in valid():
                answer = world.ask(ask)
                world.judge(ask, answer)
                assert door == "api" or answer.status < 500, (ask, answer.body)
