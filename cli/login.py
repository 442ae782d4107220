"""The work behind ``agentgw agents login``: the user's browser, and what it brings back."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import webbrowser
from collections.abc import AsyncGenerator, Mapping
from urllib.parse import parse_qsl, urlsplit

from ..gateway.control import LoginAsked
from .find import control
from .registering import summary
from .terminal import Stop, note, print_json, printable

PATIENCE = 600.0  # seconds for the user to log in
PATH = "/callback"
_PAGE = (
    "<!doctype html><meta charset=utf-8><title>agentgw</title>"
    "<body style='font:16px system-ui;margin:4em'><p>{}</p>"
)


class Callback:
    """Waits at a loopback address for the browser to come back (RFC 8252, section 7.3)."""

    def __init__(self) -> None:
        self.state = ""
        self.uri = ""
        self.answer: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()

    @contextlib.asynccontextmanager
    async def listening(self, port: int) -> AsyncGenerator[Callback]:
        """``port`` 0: a free one."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.uri = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}{PATH}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(10):
                head = await reader.readuntil(b"\r\n\r\n")
            status, words = self._taken(head.decode("latin-1").split(" ", 2))
            page = _PAGE.format(words).encode()
            writer.write(
                f"HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {len(page)}\r\n"
                "cache-control: no-store\r\nreferrer-policy: no-referrer\r\n"
                "x-content-type-options: nosniff\r\ncontent-security-policy: default-src 'none'; "
                "style-src 'unsafe-inline'; frame-ancestors 'none'\r\n"
                "connection: close\r\n\r\n".encode()
                + page
            )
            await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _taken(self, words: list[str]) -> tuple[str, str]:
        """What a request brings, if it is this login's; status and words of the answer."""
        asked = words[1] if len(words) > 1 and words[0] == "GET" else ""
        target = urlsplit(asked) if asked.startswith(PATH) else None  # what is none raises for others
        query = dict(parse_qsl(target.query, keep_blank_values=True)) if target is not None else {}
        if target is None or target.path != PATH or not self.state or query.get("state") != self.state:
            return "404 Not Found", "There is nothing here."
        if not self.answer.done():
            self.answer.set_result(query)
        return "200 OK", "This window can be closed: the terminal says how it went."


async def login(
    name: str,
    *,
    browser: bool,
    client_id: str,
    client_secret: str,
    scope: str,
    port: int,
    as_json: bool,
) -> int:
    """Log in; 1 when the agent is not well afterwards."""
    try:
        async with Callback().listening(port) as back:
            asked = LoginAsked(
                redirect_uri=back.uri, client_id=client_id, client_secret=client_secret, scope=scope
            )
            async with control() as here:
                begun = await here.begin_login(name, asked)
            back.state = begun.state
            _show(name, begun.url, begun.issuer, browser=browser, as_json=as_json)
            try:
                async with asyncio.timeout(PATIENCE):
                    answer = await back.answer
            except TimeoutError:
                raise Stop("nobody came back from the login in time: try again") from None
            async with control() as here:
                agent = await here.finish_login(name, begun.pending, answer)
    except OSError as e:
        raise Stop(f"can't listen for the answer of the login: {e.strerror or e}") from None
    if as_json:
        print_json(agent)
    else:
        print(f"logged in to {name}: {summary(agent)}")
    return int(agent.health not in ("ok", "degraded"))


def _show(name: str, url: str, issuer: str, *, browser: bool, as_json: bool) -> None:
    if browser and webbrowser.open(url):
        note(f"the browser asks you to log in to {name} at {issuer}; if it does not, open\n{url}")
        return
    note(f"open this URL in a browser on this machine, to log in to {name} at {issuer}:")
    print(printable(url), file=sys.stderr if as_json else sys.stdout, flush=True)


async def logout(name: str, as_json: bool) -> None:
    async with control() as here:
        agent = await here.logout(name)
    if as_json:
        print_json(agent)
    else:
        print(f"logged out of {name}: {summary(agent)}")
