"""The page that a browser comes back to after a login: nothing of what it brings is in it."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from agentgw.cli.login import Callback, _show  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("state", ["right", "wrong"])
async def test_the_page_is_guarded_and_echoes_nothing(state: str) -> None:
    async with Callback().listening(0) as callback:
        callback.state = "right"
        at = urlsplit(callback.uri)
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port)
        evil = "%3Cscript%3Ealert(1)%3C/script%3E"
        target = (
            f"{at.path}?state={state}&code={evil}&error={evil}&error_description=<script>alert(1)</script>"
        )
        writer.write(f"GET {target.replace(' ', '')} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        async with asyncio.timeout(60):
            got = (await reader.read()).decode()
        writer.close()
    head, _, page = got.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 200 " if state == "right" else "HTTP/1.1 404 ")
    assert "script" not in page and "alert" not in page
    lines = head.lower()
    assert "x-content-type-options: nosniff" in lines and "referrer-policy: no-referrer" in lines
    assert "default-src 'none'" in lines and "frame-ancestors 'none'" in lines


@pytest.mark.parametrize("target", ["//[", "*", "http://[/callback", ""])
async def test_what_is_no_path_is_answered_all_the_same(target: str) -> None:
    async with Callback().listening(0) as callback:
        callback.state = "right"
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(callback.uri).port)
        writer.write(f"GET {target} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
        async with asyncio.timeout(60):
            got = await reader.read()
        writer.close()
        assert got.startswith(b"HTTP/1.1 404 ")
        assert not callback.answer.done()


def test_the_url_to_log_in_at_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    url = "https://as.example/\x1b]0;owned\x07?a=\x9b31m"
    _show("sly", url, url, browser=False, as_json=False)
    said = capsys.readouterr()
    assert "https://as.example/]0;owned?a=31m" in said.out
    assert not {"\x1b", "\x07", "\x9b"} & set(said.out + said.err)
