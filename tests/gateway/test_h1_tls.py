"""The way out over TLS and through proxies."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from agentgw.gateway.errors import Unconnected
from agentgw.gateway.transport import HttpTransport

from .agent_server import GOOD, HEAD, Script, Server, hangs, says, serving

AGENT = "agent.example"


class Authority:
    """One that is trusted, for the time of a test."""

    def __init__(self) -> None:
        self.ca = trustme.CA()
        self.names: list[str | None] = []

    def context(self, *names: str) -> ssl.SSLContext:
        """A server's, with a certificate for these names. ``self.names``: what clients ask for."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert(*names).configure_cert(context)
        context.sni_callback = lambda s, name, c: self.names.append(name)
        return context


@pytest.fixture(scope="module")
def issued() -> Authority:
    return Authority()


@pytest.fixture
def authority(issued: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Authority:
    issued.ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    issued.names.clear()
    return issued


@pytest.fixture
def unproxied(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "request_method"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextlib.asynccontextmanager
async def transport() -> AsyncIterator[HttpTransport]:
    http = HttpTransport(per_route=1, total=1)
    try:
        yield http
    finally:
        await http.aclose()


async def body(http: HttpTransport, url: str, **more: Any) -> bytes:
    async with asyncio.timeout(60):
        return (await http.request("GET", url, **more)).body


# --- TLS -----------------------------------------------------------------------------------------


async def test_a_trusted_certificate(authority: Authority) -> None:
    context = authority.context("127.0.0.1")
    async with transport() as http, serving(says(HEAD + b"content-length: 2\r\n\r\nok"), context) as server:
        for _ in range(3):
            assert await body(http, server.url) == b"ok"
        async with http.stream("POST", server.url, body=b"x" * 1_000_000) as answer:
            assert await answer.read() == b"ok"
        assert (server.connections, authority.names) == (1, [None])


async def test_a_certificate_of_nobody(unproxied: None) -> None:
    context = Authority().context("127.0.0.1")
    async with transport() as http, serving(says(), context) as server:
        with pytest.raises(Unconnected, match=r"certificate is not trusted: \w"):
            await body(http, server.good)
        assert server.requests == []


async def test_a_certificate_for_another_name(authority: Authority) -> None:
    async with transport() as http, serving(says(), authority.context("other.example")) as server:
        with pytest.raises(Unconnected, match=r"certificate is not trusted: .*(mismatch|not valid for)"):
            await body(http, server.good)
        assert server.requests == []


async def test_another_address_keeps_the_name(authority: Authority, unproxied: None) -> None:
    async with transport() as http, serving(says(), authority.context(AGENT)) as server:
        url = f"https://{AGENT}:{server.port}/good"
        assert await body(http, url, address="127.0.0.1") == b"good"
        assert authority.names == [AGENT]
        assert f"host: {AGENT}:{server.port}\r\n".encode() in server.requests[0]


async def test_no_tls_where_it_was_expected(unproxied: None) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with transport() as http, await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        with pytest.raises(Unconnected, match="can't be reached: no TLS connection"):
            await body(http, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")


async def test_cut_off_within_a_body(authority: Authority) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"content-length: 10\r\n\r\n12345")
        await writer.drain()
        writer.transport.abort()

    async with transport() as http, serving(script, authority.context("127.0.0.1")) as server:
        with pytest.raises(Exception, match="before its answer was complete"):
            await body(http, server.url)
        assert await body(http, server.good) == b"good"


async def test_cancelled_over_tls(authority: Authority) -> None:
    async with transport() as http, serving(hangs(), authority.context("127.0.0.1")) as server:
        asking = asyncio.create_task(body(http, server.url))
        await server.asked.wait()
        asking.cancel()
        async with asyncio.timeout(60):
            await server.gone.wait()
        assert await body(http, server.good) == b"good"


# --- proxies -------------------------------------------------------------------------------------


def tunnel(port: int, answer: bytes = b"HTTP/1.1 200 Connection established\r\n\r\n") -> Script:
    """A proxy's answer to CONNECT, whatever it was for: a tunnel to that port."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, out = await asyncio.open_connection("127.0.0.1", port)
        writer.write(answer)

        async def passed(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
            while piece := await source.read(2**16):
                to.write(piece)
            to.close()

        try:
            await asyncio.gather(passed(reader, out), passed(there, writer))
        finally:
            out.close()

    return script


def proxied(monkeypatch: pytest.MonkeyPatch, name: str, proxy: Server, user: str = "") -> None:
    monkeypatch.setenv(name, proxy.origin.replace("//", f"//{user}"))


async def test_http_through_a_proxy(monkeypatch: pytest.MonkeyPatch, unproxied: None) -> None:
    async with serving(says(GOOD)) as proxy:
        proxied(monkeypatch, "http_proxy", proxy, "me:p%40ss@")
        async with transport() as http:
            for _ in range(2):
                assert await body(http, f"http://{AGENT}/x?y", headers=[("x-a", "b")]) == b"good"
        line, *headers = proxy.requests[0].decode().split("\r\n")
        assert line == f"GET http://{AGENT}/x?y HTTP/1.1"
        known = base64.b64encode(b"me:p@ss").decode()
        assert {f"host: {AGENT}", "x-a: b", f"proxy-authorization: Basic {known}"} <= set(headers)
        assert proxy.connections == 1


async def test_https_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, unproxied: None, authority: Authority
) -> None:
    async with serving(says(), authority.context(AGENT)) as agent, serving(tunnel(agent.port)) as proxy:
        proxied(monkeypatch, "HTTPS_PROXY", proxy, "me:secret@")
        async with transport() as http:
            for _ in range(2):
                assert await body(http, f"https://{AGENT}/good") == b"good"
        (request,) = proxy.requests
        known = base64.b64encode(b"me:secret").decode()
        assert request.decode().split("\r\n")[:3] == [
            f"CONNECT {AGENT}:443 HTTP/1.1",
            f"host: {AGENT}:443",
            f"proxy-authorization: Basic {known}",
        ]
        assert b"proxy-authorization" not in b"".join(agent.requests)
        assert authority.names == [AGENT]


async def test_an_address_through_a_proxy(monkeypatch: pytest.MonkeyPatch, unproxied: None) -> None:
    """The proxy does not resolve the name anew: it is told the address."""
    async with serving(says()) as agent, serving(tunnel(agent.port)) as proxy:
        proxied(monkeypatch, "all_proxy", proxy)
        async with transport() as http:
            assert await body(http, f"http://{AGENT}/good", address="192.0.2.7") == b"good"
        assert proxy.requests[0].startswith(b"CONNECT 192.0.2.7:80 HTTP/1.1\r\n")
        assert f"host: {AGENT}\r\n".encode() in agent.requests[0]


async def test_a_proxy_over_tls(
    monkeypatch: pytest.MonkeyPatch, unproxied: None, authority: Authority
) -> None:
    async with (
        serving(says(), authority.context(AGENT)) as agent,
        serving(tunnel(agent.port), authority.context("127.0.0.1")) as proxy,
    ):
        proxied(monkeypatch, "https_proxy", proxy)
        async with transport() as http:
            assert await body(http, f"https://{AGENT}/good") == b"good"


async def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch, unproxied: None) -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 6\r\n\r\nsecret"
    async with serving(says(refusal)) as proxy:
        proxied(monkeypatch, "https_proxy", proxy)
        async with transport() as http:
            for _ in range(2):
                with pytest.raises(Unconnected, match=r"the proxy answered with HTTP 407$"):
                    await body(http, f"https://{AGENT}/good")


@pytest.mark.parametrize("name", ["http_proxy", "https_proxy"])
async def test_no_proxy_there(monkeypatch: pytest.MonkeyPatch, unproxied: None, name: str) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with transport() as http:
        with pytest.raises(Unconnected, match="through the system's proxy: connection refused"):
            await body(http, f"{name.partition('_')[0]}://{AGENT}/")


async def test_cancelled_while_a_proxy_hangs(monkeypatch: pytest.MonkeyPatch, unproxied: None) -> None:
    async with serving(hangs()) as proxy:
        proxied(monkeypatch, "https_proxy", proxy)
        http = HttpTransport()
        asking = asyncio.create_task(body(http, f"https://{AGENT}/good"))
        await proxy.asked.wait()
        asking.cancel()
        async with asyncio.timeout(60):
            await proxy.gone.wait()


async def test_a_proxy_that_hangs(monkeypatch: pytest.MonkeyPatch, unproxied: None) -> None:
    async with serving(hangs()) as proxy:
        proxied(monkeypatch, "https_proxy", proxy)
        http = HttpTransport(connect_timeout=0.05)
        with pytest.raises(Unconnected, match="through the system's proxy: no answer in time"):
            await body(http, f"https://{AGENT}/good")
        async with asyncio.timeout(60):
            await proxy.gone.wait()


@pytest.mark.parametrize("setting", ["socks5://127.0.0.1:1080", "http://", "http://h:port"])
async def test_a_setting_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, unproxied: None, setting: str
) -> None:
    monkeypatch.setenv("all_proxy", setting)
    async with transport() as http:
        with pytest.raises(Unconnected, match="the system's proxy"):
            await body(http, f"http://{AGENT}/")


@pytest.mark.parametrize(
    ("url", "bypass"),
    [
        (f"http://{AGENT}:{{port}}/good", ".example"),
        (f"http://{AGENT}:{{port}}/good", AGENT),
        (f"http://{AGENT}:{{port}}/good", "*"),
        ("http://10.1.2.3:{port}/good", "192.168.0.0/16, 10.0.0.0/8"),
        ("http://[fd00::1]:{port}/good", "fd00::/8"),
        ("http://localhost:{port}/good", ""),
        ("http://127.0.0.2:{port}/good", ""),
    ],
)
async def test_reached_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, unproxied: None, url: str, bypass: str
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", bypass)
    async with transport() as http, serving(says()) as server:
        assert await body(http, url.format(port=server.port), address="127.0.0.1") == b"good"
