"""A head that came again and again is not read any more; who sends it is looked at all the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from .test_limits import gateway, made_key

KNOWN = 4  # requests after which a head is known
Ask = Callable[[], Awaitable[int]]


@contextlib.asynccontextmanager
async def asking(port: int, **headers: str) -> AsyncIterator[Ask]:
    """Sends the very same request on one connection, for as often as it is called; the answer's status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in ({"host": "127.0.0.1"} | headers).items())

    async def ask() -> int:
        writer.write(f"GET /acp/ping HTTP/1.1\r\n{lines}\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(head.partition("content-length: ")[2].partition("\r\n")[0]))
        return int(head.split(" ")[1])

    yield ask
    writer.close()


async def test_a_key_that_is_revoked_is_refused_with_the_next_request() -> None:
    async with gateway() as (http, ours):
        assert ours.manager is not None
        ann, bob = [await made_key(ours, name) for name in ("ann", "bob")]
        async with (
            asking(http.base_url.port, authorization=f"Bearer {ann}") as as_ann,
            asking(http.base_url.port, authorization=f"Bearer {bob}") as as_bob,
        ):
            assert [await as_ann() for _ in range(KNOWN)] == [200] * KNOWN
            assert [await as_bob() for _ in range(KNOWN)] == [200] * KNOWN
            await ours.manager.revoke_key("ann")
            assert await as_ann() == 401
            assert await as_bob() == 200
            await ours.manager.remove_key("ann")
            assert await as_ann() == 401


async def test_with_the_first_key_who_has_none_is_refused_and_let_in_with_the_last() -> None:
    async with gateway() as (http, ours):
        assert ours.manager is not None
        async with (
            asking(http.base_url.port) as ask,
            asking(http.base_url.port, authorization="Bearer x") as odd,
        ):
            assert [await ask() for _ in range(KNOWN)] == [200] * KNOWN
            assert [await odd() for _ in range(KNOWN)] == [
                200
            ] * KNOWN  # ignored, as long as nobody needs one
            await made_key(ours, "ann")
            assert (await ask(), await odd()) == (401, 401)
            await ours.manager.remove_key("ann")
            assert (await ask(), await odd()) == (200, 200)


async def test_a_host_that_is_no_name_of_the_gateway_s_any_more_is_refused() -> None:
    async with gateway() as (http, ours):
        named = msgspec.structs.replace(ours.config.server, hosts=("gw.example",))
        before, config = ours.config, msgspec.structs.replace(ours.config, server=named)
        await ours.reconfigure(config)
        async with asking(http.base_url.port, host="gw.example") as ask:
            assert [await ask() for _ in range(KNOWN)] == [200] * KNOWN
            await ours.reconfigure(before)
            assert await ask() == 421
