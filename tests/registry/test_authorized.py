"""What goes to an agent with a token is sent again only where the agent refused it: nothing was done then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from agentgw.gateway.errors import Unreachable
from agentgw.gateway.transport import Headers, Reply, Transport
from agentgw.registry.authorized import Authorized
from agentgw.registry.bearer import TRIES, Bearer, Header, Issued

URL = "http://agent.example/mcp"
GONE = 0  # the connection breaks after the request was sent


class Opened:
    """An answer of ``agent``, to be closed."""

    def __init__(self, agent: Agent, status: int) -> None:
        self.status = status
        self._agent = agent

    def close(self) -> None:
        self._agent.open -= 1


class Agent:
    """A transport whose other side answers with these statuses, one after the other."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.tokens: list[str] = []
        self.open = 0

    def _answered(self, headers: Headers) -> Reply:
        self.tokens.append(dict(cast("Sequence[tuple[str, str]]", headers))["authorization"])
        status = self.statuses.pop(0)
        if status == GONE:
            raise Unreachable("the agent closed the connection before its answer was complete")
        return Reply(status, (), b"")

    async def request(self, method: str, url: str, *, headers: Headers = (), **more: Any) -> Reply:
        return self._answered(headers)

    async def opened(self, method: str, url: str, *, headers: Headers = (), **more: Any) -> Opened:
        opened = Opened(self, self._answered(headers).status)
        self.open += 1
        return opened


def authorized(agent: Agent) -> Authorized:
    """Its tokens are t1, t2, …"""
    issued: list[int] = []

    async def obtain(refused: Header | None) -> Issued:
        issued.append(1)
        return Issued(("authorization", f"t{len(issued)}"))

    return Authorized(cast("Transport", agent), URL, Bearer(obtain, lambda: None))


async def asked(agent: Agent, way: str) -> int:
    """The status of the answer that the caller gets."""
    transport = authorized(agent)
    if way == "request":
        return (await transport.request("POST", URL, body=b"{}")).status
    async with transport.stream("POST", URL, body=b"{}") as answer:
        return answer.status


@pytest.mark.parametrize("way", ["request", "stream"])
@pytest.mark.parametrize(
    ("statuses", "sent"),
    [([200], 1), ([502], 1), ([404], 1), ([GONE], 1), ([401, 200], 2), ([401, 502], 2), ([401, GONE], 2)],
)
async def test_only_what_was_refused_is_sent_again(way: str, statuses: list[int], sent: int) -> None:
    agent = Agent(*statuses, 200, 200)
    if statuses[-1] == GONE:
        with pytest.raises(Unreachable):
            await asked(agent, way)
    else:
        assert await asked(agent, way) == statuses[-1]
    assert agent.tokens == ["t1", "t2"][:sent]
    assert not agent.open


@pytest.mark.parametrize("way", ["request", "stream"])
async def test_an_agent_that_refuses_whatever_it_gets_is_left_with_its_answer(way: str) -> None:
    agent = Agent(*[401] * 10)
    assert await asked(agent, way) == 401
    assert len(agent.tokens) == 1 + TRIES
