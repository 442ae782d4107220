"""How many requests a principal may make: bursts, refill, room, several processes."""

from __future__ import annotations

import tempfile

import pytest

from agentgw.gateway import rates
from agentgw.gateway.errors import RateLimited
from agentgw.gateway.rates import Rates


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def taken(limits: Rates, who: str, tries: int, own: float | None = None) -> int:
    """How many of so many requests are let through."""
    count = 0
    for _ in range(tries):
        try:
            limits.take(who, own)
        except RateLimited:
            continue
        count += 1
    return count


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    limits = Rates(5, 3, clock=clock)
    assert taken(limits, "a", 10) == 3
    clock.now += 0.21
    assert taken(limits, "a", 10) == 1
    clock.now += 100  # no more than a burst is saved up
    assert taken(limits, "a", 10) == 3
    total = 0
    for _ in range(1000):
        clock.now += 0.01
        total += taken(limits, "a", 5)
    assert 49 <= total <= 51


def test_one_does_not_pay_for_another() -> None:
    limits = Rates(1, 2, clock=Clock())
    assert taken(limits, "a", 50) == 2
    assert taken(limits, "b", 2) == 2


@pytest.mark.parametrize(
    ("own", "burst", "second"), [(1, rates.LEAST, 1), (100, 100, 100), (0, 500, 500), (None, rates.LEAST, 5)]
)
def test_one_may_have_a_rate_of_its_own(own: float | None, burst: int, second: int) -> None:
    clock = Clock()
    limits = Rates(5, clock=clock)
    assert taken(limits, "a", 500, own) == burst
    clock.now += 1.001
    assert taken(limits, "a", 500, own) == second
    assert taken(limits, "b", 500) == rates.LEAST


def test_a_rate_of_one_s_own_needs_no_other() -> None:
    limits = Rates(0, clock=Clock())
    assert not limits.bounded
    assert taken(limits, "a", 1000) == 1000
    assert taken(limits, "b", 1000, 1) == rates.LEAST


def test_who_is_refused_is_told_when_to_come_back() -> None:
    clock = Clock()
    limits = Rates(0.1, 1, clock=clock)
    limits.take("a")
    clock.now += 2.5
    with pytest.raises(RateLimited) as refused:
        limits.take("a")
    assert (refused.value.retry_after, refused.value.data) == (8, {"retry_after": 8})
    clock.now += 7.5
    limits.take("a")


@pytest.mark.parametrize(("rate", "burst"), [(100, 100), (1, rates.LEAST), (0.01, rates.LEAST)])
def test_the_burst_that_nobody_configured(rate: float, burst: int) -> None:
    assert taken(Rates(rate, clock=Clock()), "a", 1000) == burst


def test_there_is_no_more_memory_for_more_principals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are taken again once a bucket is full; while all are in use, some share."""
    monkeypatch.setattr(rates, "SLOTS", 64)
    monkeypatch.setattr(rates, "TABLE_BYTES", 64 * 16)
    clock = Clock()
    limits = Rates(1, 1, clock=clock)
    assert taken(limits, "mine", 2) == 1
    for number in range(5000):
        taken(limits, f"other-{number}", 1)
    assert taken(limits, "mine", 2) == 0
    assert len(limits._known) <= 64
    clock.now += 5000
    assert [taken(limits, f"new-{number}", 5) for number in range(4)] == [1] * 4
    assert taken(limits, "mine", 2) == 1


def test_several_processes_keep_one_rate() -> None:
    clock = Clock()
    with tempfile.TemporaryFile() as table:
        table.truncate(4096 + rates.TABLE_BYTES)
        one, two = (Rates(5, 4, table.fileno(), 4096, clock) for _ in range(2))
        assert taken(one, "a", 3) == 3
        assert taken(two, "a", 9) == 1
        assert taken(one, "a", 9) == 0
        assert taken(two, "b", 9) == 4
        table.seek(0)
        assert table.read(4096) == bytes(4096)  # what stands before it is another's
