"""Which protocol is behind a URL, and which agents."""

import asyncio

import pytest

from agentgw.gateway.errors import (
    AgentError,
    BadUpstream,
    InvalidRequest,
    Unauthenticated,
    Unreachable,
    UpstreamTimeout,
)
from agentgw.gateway.model import Agent
from agentgw.gateway.ports import Adapter, Found
from agentgw.registry import discovery

TOOLS = Agent(name="tools", conversational=False)
CARD = Agent(name="card")
BASE = "http://h.example"


def speaking(id: str, answers: dict, rank: int = 100) -> Adapter:
    """An adapter whose probe answers from a table by URL; an exception in it is raised."""

    async def probe(url, headers, host):
        answer = answers.get(url)
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer = await answer()
        return answer if answer is None or isinstance(answer, Found) else Found(url, tuple(answer))

    return Adapter(id=id, title=id, rank=rank, probe=probe)


async def detect(url: str, *adapters: Adapter, **options):
    return await discovery.detect(url, [], {a.id: a for a in adapters}, None, **options)


# --- URLs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("localhost:8000/mcp", "http://localhost:8000/mcp"),
        ("127.0.0.1:1", "http://127.0.0.1:1"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("0.0.0.0:8000", "http://0.0.0.0:8000"),
        ("agents.example/a2a", "https://agents.example/a2a"),
        (" <https://Agents.Example/Path/>. ", "https://agents.example/Path/"),
        ("'http://h/x?a=1#part',", "http://h/x?a=1"),
        ("HTTP://H", "http://h"),
    ],
)
def test_urls_are_made_whole(typed, url):
    assert discovery.normalized(typed) == url


@pytest.mark.parametrize(
    "typed", ["", "ftp://h", "http://", "http://h:port", "http://a b", "http://u:p@h", "http://u@h", "://h"]
)
def test_what_is_no_url_is_refused(typed):
    with pytest.raises(InvalidRequest) as error:
        discovery.normalized(typed)
    assert ":p@" not in error.value.message or "u:p" not in error.value.message


# --- which protocol -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mcp", "a2a", "acp", "protocol"),
    [
        ([TOOLS], None, None, "mcp"),
        (None, [CARD], None, "a2a"),
        (None, None, [CARD, CARD], "acp"),
        ([TOOLS], [CARD], [CARD, Agent(name="b")], "a2a"),  # the gateway's own endpoint
        ([TOOLS], None, [CARD, Agent(name="b")], "acp"),
        (None, [CARD], [CARD], "a2a"),
        ([TOOLS], UpstreamTimeout("late"), BadUpstream("no"), "mcp"),
        ([TOOLS], Unauthenticated("who?"), None, "mcp"),
        ([TOOLS], RuntimeError("a bug"), None, "mcp"),
    ],
)
async def test_the_most_telling_answer_counts(mcp, a2a, acp, protocol):
    adapters = [speaking(id, {BASE: answer}, rank) for id, answer, rank in
                (("mcp", mcp, 10), ("a2a", a2a, 20), ("acp", acp, 30))]  # fmt: skip
    for order in (adapters, adapters[::-1]):
        found = await detect(BASE, *order)
        assert found.protocol == protocol
        assert found.refusal is None


async def test_one_agent_counts_before_several_and_then_the_rank():
    one, several = {BASE: [CARD]}, {BASE: [CARD, Agent(name="b")]}
    assert (await detect(BASE, speaking("a", several, 1), speaking("b", one, 2))).protocol == "b"
    assert (await detect(BASE, speaking("a", one, 2), speaking("b", one, 1))).protocol == "b"
    assert (await detect(BASE, speaking("b", one, 1), speaking("a", one, 1))).protocol == "a"


async def test_the_others_are_told():
    found = await detect(BASE, speaking("mcp", {BASE: [TOOLS]}), speaking("a2a", {BASE: [CARD]}))
    assert (found.protocol, found.others) == ("a2a", ("mcp",))


async def test_nothing_that_answers_is_said_with_what_was_tried():
    with pytest.raises(Unreachable, match=r"http://h\.example answers as mcp, a2a"):
        await detect(BASE, speaking("mcp", {}), speaking("a2a", {BASE: Unreachable("gone")}))


@pytest.mark.parametrize(
    "refusal",
    [Unauthenticated("who?"), AgentError("no"), BadUpstream("no", native={"status": 403})],
)
async def test_one_refusal_is_the_protocol(refusal):
    found = await detect(BASE, speaking("mcp", {BASE: refusal}), speaking("a2a", {}))
    assert (found.protocol, found.agents, found.refusal) == ("mcp", (), refusal)


async def test_a_door_that_refuses_everybody_is_said_to_want_credentials():
    closed = {BASE: Unauthenticated("who?")}
    with pytest.raises(Unreachable, match="asks for credentials"):
        await detect(BASE, speaking("mcp", closed), speaking("a2a", closed))


async def test_a_probe_that_hangs_holds_nobody_up(monkeypatch):
    monkeypatch.setattr(discovery, "GRACE", 0)
    canceled = asyncio.Event()

    async def hang():
        try:
            await asyncio.Event().wait()
        finally:
            canceled.set()

    async with asyncio.timeout(60):
        found = await detect(
            BASE, speaking("mcp", {BASE: hang}), speaking("a2a", {BASE: [CARD]}), timeout=3600
        )
    assert found.protocol == "a2a"
    assert canceled.is_set()


async def test_a_url_that_never_answers_ends_at_the_limit():
    with pytest.raises(Unreachable):
        await detect(BASE, speaking("mcp", {BASE: asyncio.Event().wait}), timeout=0.01)


# --- which agent ----------------------------------------------------------------------------------

SEVERAL = [Agent(name="echo"), Agent(name="slow")]


async def test_several_agents_are_listed_with_what_to_say():
    found = await detect(BASE, speaking("acp", {BASE: SEVERAL}))
    with pytest.raises(InvalidRequest, match=r"echo, slow; use --remote NAME or --all") as error:
        found.only(None)
    assert error.value.data == {"agents": ["echo", "slow"]}
    assert found.only("slow") == "slow"
    with pytest.raises(InvalidRequest, match=r"no agent 'fast' .* there are echo, slow"):
        found.only("fast")


async def test_one_agent_is_taken_as_it_is():
    assert (await detect(BASE, speaking("a2a", {BASE: [CARD]}))).only(None) is None


async def test_the_remote_asked_for_decides_between_protocols():
    adapters = [speaking("a2a", {BASE: [CARD]}), speaking("acp", {BASE: SEVERAL})]
    assert (await detect(BASE, *adapters)).protocol == "a2a"
    assert (await detect(BASE, *adapters, remote="slow")).protocol == "acp"


@pytest.mark.parametrize("end", ["", "/"])
async def test_a_url_may_name_its_agent(end):
    found = await detect(f"{BASE}/agents/slow{end}", speaking("acp", {BASE: SEVERAL}))
    assert (found.url, found.only(None)) == (BASE, "slow")


async def test_a_url_that_answers_itself_is_not_taken_apart():
    url = f"{BASE}/agents/slow"
    found = await detect(url, speaking("acp", {BASE: SEVERAL}), speaking("a2a", {url: [CARD]}))
    assert (found.protocol, found.url, found.only(None)) == ("a2a", url, None)


async def test_an_adapter_may_take_the_url_apart_itself():
    url = f"{BASE}/agents/slow"
    found = await detect(url, speaking("acp", {url: Found(BASE, tuple(SEVERAL))}))
    assert (found.url, found.only(None)) == (BASE, "slow")


async def test_a_named_agent_that_is_not_there_is_not_found():
    with pytest.raises(Unreachable):
        await detect(f"{BASE}/agents/fast", speaking("acp", {BASE: SEVERAL}))
