"""Which addresses a URL from a message may lead to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from agentgw.gateway.errors import Forbidden, InvalidRequest, Unreachable
from agentgw.gateway.outbound import checked


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://8.8.8.8/", "8.8.8.8"),
        ("https://8.8.8.8:8443/x?y", "8.8.8.8"),
        ("http://[2001:4860:4860::8888]/", "2001:4860:4860::8888"),
        ("http://[::ffff:8.8.8.8]/", "8.8.8.8"),
        ("http://[64:ff9b::808:808]/", "64:ff9b::808:808"),  # a public address behind NAT64
    ],
)
async def test_public_addresses(url: str, address: str) -> None:
    assert await checked(url, ()) == address


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "2130706433",  # the same, as one number
        "0x7f.0.0.1",
        "0.0.0.0",
        "localhost",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "[fd00::1]",
        "[fec0::1]",
        "169.254.1.1",
        "[fe80::1]",
        "169.254.169.254",  # metadata services: most clouds, AWS over IPv6, Alibaba, Oracle, Azure
        "[fd00:ec2::254]",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[ff02::1]",
        "[64:ff9b::7f00:1]",  # 127.0.0.1 by NAT64
        "[64:ff9b:1::1]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:7f00:1::]",  # 127.0.0.1 by 6to4
        "[2002:a00:1::1]",
        "[2001:0:a00:1::1]",  # Teredo
        "[2001:db8::1]",
    ],
)
async def test_addresses_that_are_not_public(host: str) -> None:
    with pytest.raises(Forbidden, match="is not a public address") as e:
        await checked(f"http://{host}/secret?key=hush", ())
    assert "hush" not in e.value.message + e.value.detail


@pytest.mark.parametrize(
    ("url", "allow", "fits"),
    [
        ("http://10.1.2.3/", ("10.0.0.0/8",), True),
        ("http://10.1.2.3/", ("192.168.0.0/16",), False),
        ("http://10.1.2.3/", ("fd00::/8", "10.1.2.0/24"), True),
        ("http://[::ffff:10.0.0.1]/", ("10.0.0.0/8",), True),
        ("http://[64:ff9b::a00:1]/", ("10.0.0.0/8",), True),
        ("http://[fd00::1]/", ("fd00::/8",), True),
        ("http://localhost/", ("127.0.0.0/8", "::1/128"), True),
    ],
)
async def test_allowed_networks(url: str, allow: tuple[str, ...], fits: bool) -> None:
    if fits:
        await checked(url, allow)
    else:
        with pytest.raises(Forbidden):
            await checked(url, allow)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://8.8.8.8/",
        "8.8.8.8",
        "",
        "http://",
        "http:///x",
        "http://8.8.8.8:0/",
        "http://8.8.8.8:99999/",
        "http://[8.8.8.8/",
        "http://user@8.8.8.8/",
        "http://:secret@8.8.8.8/",
    ],
)
async def test_what_is_no_such_url(url: str) -> None:
    with pytest.raises(InvalidRequest):
        await checked(url, ("0.0.0.0/0",))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What names resolve to."""
    known: dict[str, list[str]] = {}

    async def getaddrinfo(self: Any, host: str, port: int, **_: Any) -> Any:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in known[host]]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", getaddrinfo)
    return known


async def test_every_address_of_a_name_has_to_be_fit(names: dict[str, list[str]]) -> None:
    names["good.example"] = ["8.8.8.8", "8.8.4.4"]
    names["mixed.example"] = ["8.8.8.8", "10.0.0.1"]
    assert await checked("http://good.example/", ()) == "8.8.8.8"
    with pytest.raises(Forbidden, match=r"^mixed\.example is not a public address"):
        await checked("http://mixed.example/", ())


async def test_who_tries_again_gets_the_next_address(names: dict[str, list[str]]) -> None:
    names["two.example"] = ["93.184.215.14", "93.184.215.14", "8.8.8.8"]
    found = [await checked("http://two.example/", (), turn) for turn in range(3)]
    assert found == ["93.184.215.14", "8.8.8.8", "93.184.215.14"]


@pytest.mark.parametrize("host", ["nowhere.example", "empty.example"])
async def test_a_name_without_address(names: dict[str, list[str]], host: str) -> None:
    names["empty.example"] = []
    with pytest.raises(Unreachable, match="has no address"):
        await checked(f"http://{host}/", ())
