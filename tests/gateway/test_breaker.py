"""The circuit breaker, by the clock of the test."""

from __future__ import annotations

import pytest

from agentgw.gateway.breaker import _NEXT, Breaker, State, _Event


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(clock: Clock, chance: float = 0.5) -> Breaker:
    return Breaker(3, 5.0, 12.0, clock=clock, chance=lambda: chance)


def opened(clock: Clock) -> Breaker:
    breaker = made(clock)
    for _ in range(3):
        breaker.failed()
    return breaker


def test_the_table_has_every_state_and_event() -> None:
    states = list(State)
    assert set(_NEXT) == {(state, event) for state in states for event in _Event if event != "due"} | {
        (State.OPEN, _Event.DUE), (State.HALF_OPEN, _Event.DUE),
    }  # fmt: skip


def test_failures_in_a_row_open_it_and_one_success_between_does_not_let_them_add_up(clock: Clock) -> None:
    breaker = made(clock)
    breaker.failed()
    breaker.failed()
    breaker.succeeded()
    breaker.failed()
    breaker.failed()
    assert breaker.state is State.CLOSED
    assert breaker.admit()
    breaker.failed()
    assert breaker.state is State.OPEN
    assert not breaker.admit()


def test_after_the_pause_one_may_try_and_the_others_wait(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 4.9
    assert not breaker.admit()
    assert breaker.wait == pytest.approx(0.1)
    clock.now += 0.2
    assert breaker.admit()
    assert breaker.state is State.HALF_OPEN
    assert not breaker.admit()
    breaker.succeeded()
    assert breaker.state is State.CLOSED
    assert breaker.admit()


def test_pauses_grow_up_to_the_longest_and_begin_anew_after_a_success(clock: Clock) -> None:
    pauses: list[float] = []
    breaker = opened(clock)
    breaker.on_open = pauses.append
    for _ in range(4):
        clock.now += breaker.wait
        assert breaker.admit()
        breaker.failed()
    assert pauses == [10, 12, 12, 12]
    breaker.succeeded()
    for _ in range(3):
        breaker.failed()
    assert pauses[-1] == 5


def test_pauses_are_not_all_alike(clock: Clock) -> None:
    waits = []
    for chance in (0.0, 1.0):
        breaker = made(clock, chance)
        for _ in range(3):
            breaker.failed()
        waits.append(breaker.wait)
    assert waits == [pytest.approx(4), pytest.approx(6)]


def test_who_was_to_find_out_and_left_makes_room_for_another(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 5
    assert breaker.admit()
    breaker.dropped()
    assert breaker.state is State.OPEN
    assert breaker.admit()


def test_a_try_that_takes_too_long_does_not_keep_all_others_out(clock: Clock) -> None:
    breaker = opened(clock)
    clock.now += 5
    assert breaker.admit()
    clock.now += 5
    assert breaker.admit()


def test_who_asks_how_the_agent_is_need_not_wait(clock: Clock) -> None:
    breaker = opened(clock)
    breaker.hurry()
    assert breaker.admit()


def test_late_failures_do_not_make_the_pause_longer(clock: Clock) -> None:
    breaker = opened(clock)
    before = breaker.wait
    breaker.failed()
    assert breaker.wait == before


def test_a_limit_of_none_never_opens_it(clock: Clock) -> None:
    breaker = Breaker(0, clock=clock)
    for _ in range(100):
        breaker.failed()
    assert breaker.state is State.CLOSED
