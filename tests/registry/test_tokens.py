"""Who shares a token: agents with the same settings at one origin, and nobody else."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from agentgw.gateway.errors import NeedsAuth
from agentgw.gateway.model import OAuth, Record
from agentgw.registry.bearer import Header, Issued
from agentgw.registry.tokens import Shared

OAUTH = OAuth(token_url="https://login.example/token", client_id="me", client_secret="${SECRET}")


class Numbered(Shared):
    """Tokens with a number, as long as the server is up."""

    def __init__(self) -> None:
        self.turned: list[str] = []
        super().__init__(self.turned.append)
        self.number = itertools.count(1)
        self.up = True

    async def obtain(self, record: Record, refused: Header | None) -> Issued:
        if not self.up:
            raise NeedsAuth("the server is down")
        return Issued(("authorization", f"t{next(self.number)}"))


def agent(name: str, url: str = "https://agents.example/a2a", **oauth: Any) -> Record:
    settings = {**{f: getattr(OAUTH, f) for f in OAUTH.__struct_fields__}, **oauth}
    return Record(name=name, protocol="a2a", url=url, oauth=OAuth(**settings))


async def token(tokens: Shared, record: Record) -> str:
    bearer = tokens.bearer(record)
    assert bearer is not None
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
