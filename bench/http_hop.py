"""CPU of one small POST to an agent and back: the gateway's own HTTP client against others.

    uv run --with pyreqwest --with aiohttp python bench/http_hop.py

The agent is another process. Printed per client, at 1 and at 8 requests under way: microseconds of CPU of
this process a request (the best of three rounds), and the ratio to the gateway's.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from typing import Any

import uvloop

Ask = Callable[[str], Awaitable[int]]
ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"ok"}]}}'
BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"ok"}}}'
HEADERS = [
    ("content-type", "application/json"),
    ("accept", "application/json, text/event-stream"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]
REQUESTS = 5000


class Agent(asyncio.Protocol):
    """Answers every request of a known form: quick, so that the client is what is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.waiting = b""

    def data_received(self, data: bytes) -> None:
        self.waiting += data
        if self.waiting.endswith(BODY):
            self.waiting = b""
            head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
            self.transport.write(head % len(ANSWER) + ANSWER)


def agent(ports: Any) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Agent, "127.0.0.1", 0)
        ports.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@contextlib.asynccontextmanager
async def agentgw_client() -> AsyncIterator[Ask]:
    from agentgw.gateway.transport import HttpTransport

    client = HttpTransport()

    async def ask(url: str) -> int:
        return len((await client.request("POST", url, headers=HEADERS, body=BODY)).body)

    yield ask
    await client.aclose()


@contextlib.asynccontextmanager
async def pyreqwest_client() -> AsyncIterator[Ask]:
    from pyreqwest.client import ClientBuilder

    async with ClientBuilder().tcp_nodelay(True).build() as client:

        async def ask(url: str) -> int:
            answer = await client.post(url).headers(HEADERS).body_bytes(BODY).build().send()
            return len(await answer.bytes())

        yield ask


@contextlib.asynccontextmanager
async def aiohttp_client() -> AsyncIterator[Ask]:
    import aiohttp

    async with aiohttp.ClientSession() as client:

        async def ask(url: str) -> int:
            async with client.post(url, headers=HEADERS, data=BODY) as answer:
                return len(await answer.read())

        yield ask


@contextlib.asynccontextmanager
async def httpx_client() -> AsyncIterator[Ask]:
    import httpx

    async with httpx.AsyncClient() as client:

        async def ask(url: str) -> int:
            return len((await client.post(url, headers=HEADERS, content=BODY)).content)

        yield ask


CLIENTS = {
    "agentgw": agentgw_client,
    "pyreqwest": pyreqwest_client,
    "aiohttp": aiohttp_client,
    "httpx": httpx_client,
}


async def cost(client: Callable[[], Any], url: str, at_once: int) -> float:
    """Seconds of CPU a request."""
    async with client() as ask:

        async def some(count: int) -> None:
            for _ in range(count):
                assert await ask(url) == len(ANSWER)

        best = float("inf")
        for _ in range(3):
            await asyncio.gather(*(some(20) for _ in range(at_once)))
            begun = time.process_time()
            await asyncio.gather(*(some(REQUESTS // at_once) for _ in range(at_once)))
            best = min(best, (time.process_time() - begun) / REQUESTS)
        return best


def main() -> None:
    ports: Any = multiprocessing.Queue()
    process = multiprocessing.Process(target=agent, args=(ports,), daemon=True)
    process.start()
    url = f"http://127.0.0.1:{ports.get()}/mcp"
    for at_once in (1, 8):
        own = 0.0
        for name, client in CLIENTS.items():
            if find_spec(name) is None:
                continue
            seconds = uvloop.run(cost(client, url, at_once))
            own = own or seconds
            print(f"{at_once} at once  {name:10} {seconds * 1e6:6.1f} µs  {seconds / own:5.1f} x", flush=True)
    process.terminate()


if __name__ == "__main__":
    main()
