"""A token that many calls share: asked for once, renewed ahead of its end, replaced where it is refused."""

from __future__ import annotations

import asyncio

import pytest

from agentgw.gateway.errors import NeedsAuth
from agentgw.registry.bearer import FUTILE, PAUSE_FIRST, TRIES, Bearer, Header, Issued


def header(name: str) -> Header:
    return ("authorization", f"Bearer {name}")


class Server:
    """Issues t1, t2, …, each for ``life`` seconds (None: for ever), or fails."""

    def __init__(self, life: float | None = 1000.0) -> None:
        self.life = life
        self.now = 10_000.0
        self.asked: list[Header | None] = []
        self.open = asyncio.Event()
        self.open.set()
        self.fails = False
        self.turns = 0

    async def obtain(self, refused: Header | None) -> Issued:
        self.asked.append(refused)
        await self.open.wait()
        if self.fails:
            raise NeedsAuth("no token")
        expires = None if self.life is None else self.now + self.life
        return Issued(header(f"t{len(self.asked)}"), expires)

    def turned(self) -> None:
        self.turns += 1

    def bearer(self) -> Bearer:
        return Bearer(self.obtain, self.turned, lambda: self.now)


async def until(check) -> None:
    async with asyncio.timeout(60):
        while not check():  # noqa: ASYNC110 (there is no event to wait for)
            await asyncio.sleep(0)


async def test_many_calls_at_once_ask_once() -> None:
    server = Server()
    server.open.clear()
    bearer = server.bearer()
    assert bearer.now() is None
    waiting = [asyncio.create_task(bearer.get()) for _ in range(50)]
    await until(lambda: server.asked)
    server.open.set()
    assert set(await asyncio.gather(*waiting)) == {header("t1")}
    assert bearer.now() == header("t1") and await bearer.get() == header("t1")
    assert server.asked == [None]


async def test_what_is_being_obtained_counts_no_more_once_it_is_forgotten() -> None:
    server = Server()
    server.open.clear()
    bearer = server.bearer()
    before = asyncio.create_task(bearer.get())
    await until(lambda: server.asked)
    bearer.forget()
    after = asyncio.create_task(bearer.get())
    await until(lambda: len(server.asked) == 2)
    server.open.set()
    await asyncio.wait([before, after])
    assert bearer.now() == after.result()
    assert len(server.asked) == 2

    server.open.clear()
    refused = asyncio.create_task(bearer.refused(after.result()))
    await until(lambda: len(server.asked) == 3)
    bearer.forget()
    server.fails = True
    server.open.set()
    with pytest.raises(NeedsAuth):
        await refused
    assert server.turns == 0
    server.fails = False
    assert await bearer.get() == header("t4")


async def test_one_that_gives_up_waiting_leaves_the_others_theirs() -> None:
    server = Server()
    server.open.clear()
    bearer = server.bearer()
    one, other = asyncio.create_task(bearer.get()), asyncio.create_task(bearer.get())
    await until(lambda: server.asked)
    one.cancel()
    await asyncio.wait([one])
    server.open.set()
    assert await other == header("t1") and server.asked == [None]


async def test_it_is_renewed_ahead_of_its_end_while_calls_go_on() -> None:
    server = Server(life=1000)
    bearer = server.bearer()
    await bearer.get()
    server.now += 930
    assert bearer.now() == header("t1") and server.asked == [None]
    server.now += 20
    server.open.clear()
    assert bearer.now() == header("t1")  # it still holds; nobody waits
    assert bearer.now() == header("t1")
    await until(lambda: len(server.asked) == 2)
    server.open.set()
    await until(lambda: bearer.now() == header("t2"))
    assert len(server.asked) == 2


async def test_one_that_has_ended_is_not_used() -> None:
    server = Server(life=100)
    bearer = server.bearer()
    await bearer.get()
    server.now += 99
    assert bearer.now() is None
    assert await bearer.get() == header("t2")


async def test_one_without_an_end_is_kept() -> None:
    server = Server(life=None)
    bearer = server.bearer()
    await bearer.get()
    server.now += 1e9
    assert bearer.now() == header("t1")


async def test_a_renewal_that_fails_costs_no_call_while_the_token_holds() -> None:
    server = Server(life=1000)
    bearer = server.bearer()
    await bearer.get()
    server.now += 950
    server.fails = True
    assert bearer.now() == header("t1")
    await until(lambda: server.turns == 1)
    assert bearer.now() == header("t1") and len(server.asked) == 2  # not asked again at once
    server.now += PAUSE_FIRST
    server.fails = False
    bearer.now()
    await until(lambda: bearer.now() == header("t3"))
    assert server.turns == 2


async def test_a_failure_is_told_to_all_and_not_repeated_at_once() -> None:
    server = Server()
    server.fails = True
    bearer = server.bearer()
    for _ in range(3):
        with pytest.raises(NeedsAuth):
            await bearer.get()
    assert len(server.asked) == 1 and server.turns == 1
    server.now += PAUSE_FIRST
    server.fails = False
    assert await bearer.get() == header("t2")
    assert server.turns == 2


async def test_a_refused_token_is_replaced_once_for_all_that_had_it() -> None:
    server = Server()
    bearer = server.bearer()
    old = await bearer.get()
    found = await asyncio.gather(*(bearer.refused(old) for _ in range(20)))
    assert set(found) == {header("t2")} and server.asked == [None, old]
    assert await bearer.refused(old) == header("t2")  # who comes late
    assert len(server.asked) == 2


async def test_an_agent_that_refuses_every_token_does_not_have_them_asked_for_without_end() -> None:
    server = Server()
    bearer = server.bearer()
    token = await bearer.get()
    for _ in range(TRIES):
        token = await bearer.refused(token)
        assert token is not None
    assert await bearer.refused(token) is None and await bearer.refused(token) is None
    assert len(server.asked) == 1 + TRIES
    server.now += FUTILE
    newer = await bearer.refused(token)
    assert newer == header(f"t{2 + TRIES}")
    bearer.doubts = 0  # this one was taken
    assert await bearer.refused(newer) == header(f"t{3 + TRIES}")


async def test_a_refused_token_that_cant_be_replaced_is_used_no_more() -> None:
    server = Server()
    bearer = server.bearer()
    old = await bearer.get()
    server.fails = True
    with pytest.raises(NeedsAuth):
        await bearer.refused(old)
    with pytest.raises(NeedsAuth):
        await bearer.get()
    assert len(server.asked) == 2
    bearer.forget()  # somebody has logged in anew
    server.fails = False
    assert await bearer.get() == header("t3")
    assert server.turns == 2
