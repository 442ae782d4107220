"""Who shares a token: agents with the same settings at one origin, and nobody else."""

from __future__ import annotations

import gc
import itertools
from contextlib import aclosing
from typing import Any

import pytest

from agentgw.gateway.errors import GatewayError, NeedsAuth
from agentgw.gateway.model import OAuth, Record
from agentgw.gateway.seal import Sealer
from agentgw.gateway.transport import HttpTransport
from agentgw.registry.bearer import Bearer, Header, Issued
from agentgw.registry.logins import Login, Logins
from agentgw.registry.memory import MemoryStore
from agentgw.registry.tokenendpoint import Grant
from agentgw.registry.tokens import Shared, Tokens

OAUTH = OAuth(token_url="https://login.example/token", client_id="me", client_secret="${SECRET}")


class Numbered(Shared):
    """Tokens with a number, as long as the server is up."""

    def __init__(self) -> None:
        self.turned: list[str] = []
        super().__init__(self.turned.append)
        self.number = itertools.count(1)
        self.up = True
        self.used: list[Bearer] = []  # whoever calls the agents has them

    async def obtain(self, record: Record, refused: Header | None) -> Issued:
        if not self.up:
            raise NeedsAuth("the server is down")
        return Issued(("authorization", f"t{next(self.number)}"))


def agent(name: str, url: str = "https://agents.example/a2a", **oauth: Any) -> Record:
    settings = {**{f: getattr(OAUTH, f) for f in OAUTH.__struct_fields__}, **oauth}
    return Record(name=name, protocol="a2a", url=url, oauth=OAuth(**settings))


async def token(tokens: Numbered, record: Record) -> str:
    bearer = tokens.bearer(record)
    assert bearer is not None
    tokens.used.append(bearer)
    return (await bearer.get())[1]


async def test_the_agents_of_one_server_share_theirs() -> None:
    tokens = Numbered()
    first = await token(tokens, agent("one"))
    assert await token(tokens, agent("two")) == first
    assert await token(tokens, agent("three", "https://AGENTS.example/other")) == first


@pytest.mark.parametrize(
    "other",
    [
        {"url": "https://elsewhere.example/a2a"},
        {"url": "https://agents.example:8443/a2a"},
        {"url": "http://agents.example/a2a"},
        {"scope": "more"},
        {"audience": "another"},
        {"resource": "https://agents.example/a2a"},
        {"client_id": "another"},
    ],
    ids=str,
)
async def test_nobody_else_has_it(other: dict[str, str]) -> None:
    tokens = Numbered()
    assert await token(tokens, agent("one")) != await token(tokens, agent("two", **other))


async def test_what_one_does_with_its_token_is_no_trouble_of_another_s() -> None:
    tokens = Numbered()
    good, bad = agent("good"), agent("bad", "https://elsewhere.example/")
    held = await token(tokens, good)
    bearer = tokens.bearer(bad)
    assert bearer is not None
    tokens_of_bad = await bearer.get()
    tokens.up = False
    with pytest.raises(NeedsAuth):
        await bearer.refused(tokens_of_bad)
    assert await token(tokens, good) == held
    assert tokens.turned == ["bad"]


async def test_nobody_s_token_is_kept_once_nobody_calls_with_it() -> None:
    tokens = Numbered()
    first = await token(tokens, agent("one"))
    assert await token(tokens, agent("one")) == first
    tokens.used.clear()
    gc.collect()
    assert await token(tokens, agent("one")) != first


async def test_a_login_is_good_at_its_url_alone() -> None:
    """Also of an agent that was at another one before, and may still be called there."""
    transport = HttpTransport()
    logins = Logins(MemoryStore(), Sealer(), transport, (), {})
    tokens = Tokens(transport, {}, logins, lambda name: None)
    said: dict[str, str] = {}
    used: list[Bearer] = []
    for url in ("https://old.example/mcp", "https://new.example/mcp"):
        login = Login(url=url, issuer="i", token_url="t", client_id="c", grant=Grant(access=f"for {url}"))
        await logins.keep("hosted", login)
        tokens.forget("hosted")
        bearer = tokens.bearer(Record(name="hosted", protocol="mcp", url=url, login=True))
        assert bearer is not None
        used.append(bearer)
        said[url] = (await bearer.get())[1]
    assert said == {url: f"Bearer for {url}" for url in said}
    with pytest.raises(NeedsAuth):
        await used[0].get()
    await transport.aclose()


@pytest.mark.parametrize("environ", [{}, {"SECRET": "s"}], ids=["no secret", "no server"])
async def test_who_shares_one_does_not_learn_of_the_others(environ: dict[str, str]) -> None:
    """Whoever calls one of them may have a key for that one alone."""
    transport = HttpTransport()
    async with aclosing(transport):
        tokens = Tokens(
            transport, environ, Logins(MemoryStore(), Sealer(), transport, (), environ), lambda name: None
        )
        settings = {"token_url": "http://127.0.0.1:1/token"}
        first = tokens.bearer(agent("first", **settings))
        second = tokens.bearer(agent("second", **settings))
        assert first is not None
        assert first is second
        for _ in range(2):
            with pytest.raises(GatewayError) as failed:
                await first.get()
            said = f"{failed.value.message} {failed.value.operator} {failed.value.data}"
            assert "first" not in said
