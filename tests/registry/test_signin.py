"""Finding an agent's authorization server and logging in there: what holds, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import msgspec
import pytest

from agentgw.gateway.control import LoginAsked
from agentgw.gateway.errors import GatewayError, InvalidRequest, NeedsAuth
from agentgw.gateway.model import OAuth, Record
from agentgw.gateway.seal import Sealer
from agentgw.gateway.transport import HttpTransport
from agentgw.registry.authservers import bearer_challenge
from agentgw.registry.bearer import Issued
from agentgw.registry.logins import SPACE, Logins
from agentgw.registry.memory import MemoryStore
from agentgw.registry.signin import SignIn
from agentgw.registry.tokenendpoint import Grant

from ..support.oauth import AuthServer, Guard

BACK = "http://127.0.0.1:5/callback"
ASKED = LoginAsked(redirect_uri=BACK)


@dataclass
class Scene:
    server: AuthServer
    guard: Guard
    store: MemoryStore
    sealer: Sealer
    logins: Logins
    signin: SignIn

    @property
    def record(self) -> Record:
        return Record(name="notes", protocol="mcp", url=f"{self.guard.url}/mcp")

    async def visited(self, asked: LoginAsked = ASKED) -> tuple[str, dict[str, str]]:
        """The first step, and what the browser comes back with."""
        begun = await self.signin.begin(self.record, asked)
        async with httpx.AsyncClient() as browser:
            answer = await browser.get(begun.url)
        assert answer.status_code == 302, answer.text
        back = answer.headers["location"]
        assert back.startswith(BACK)
        return begun.pending, dict(parse_qsl(urlsplit(back).query))

    async def login(self, asked: LoginAsked = ASKED) -> None:
        pending, answer = await self.visited(asked)
        await self.logins.keep("notes", await self.signin.finish(self.record, pending, answer))

    async def token(self) -> str:
        found = await self.logins.obtain(self.record, None)
        return found.header[1].removeprefix("Bearer ")


@pytest.fixture
def servers() -> Iterator[tuple[AuthServer, Guard]]:
    with ExitStack() as stack:
        server = stack.enter_context(AuthServer().running())
        yield server, stack.enter_context(Guard("http://127.0.0.1:1", server).running())


@pytest.fixture
async def scene(servers: tuple[AuthServer, Guard]) -> AsyncIterator[Scene]:
    transport, store, sealer = HttpTransport(), MemoryStore(), Sealer()
    logins = Logins(store, sealer, transport, (), {"SECRET": "s3cret"})
    yield Scene(*servers, store, sealer, logins, SignIn(transport, sealer, logins, ()))
    await transport.aclose()


async def test_the_token_is_for_this_agent_and_sealed(scene: Scene) -> None:
    await scene.login()
    assert scene.server.good(await scene.token())
    assert scene.server.forms[0]["resource"] == f"{scene.guard.url}/mcp"
    (sealed,) = (await scene.store.items(SPACE)).values()
    assert not any(token.encode() in sealed for token in scene.server.issued)
    again = Logins(scene.store, scene.sealer, HttpTransport(), (), {})
    await again.load()
    assert again.is_in(scene.record)


async def test_metadata_is_found_without_a_hint_and_as_openid_configuration(scene: Scene) -> None:
    scene.guard.hint = False
    scene.server.metadata_paths = ("/.well-known/openid-configuration",)
    await scene.login()
    assert scene.server.good(await scene.token())


async def test_a_client_that_is_known_there_is_used(scene: Scene) -> None:
    scene.server.clients["mine"] = "s3cret"
    await scene.login(LoginAsked(redirect_uri=BACK, client_id="mine", client_secret="${SECRET}", scope="a"))
    assert scene.server.good(await scene.token()) and not scene.server.registrations
    assert scene.server.authorizations[0]["scope"] == "a"


async def test_a_registration_is_used_again_for_the_same_address(scene: Scene) -> None:
    await scene.login()
    await scene.login()
    assert len(scene.server.registrations) == 1


async def test_a_refused_token_is_refreshed_and_one_of_before_is_answered_with_the_new_one(
    scene: Scene,
) -> None:
    await scene.login()
    first = ("authorization", f"Bearer {await scene.token()}")
    scene.server.expire()
    second = (await scene.logins.obtain(scene.record, first)).header
    assert second != first and scene.server.good(second[1].removeprefix("Bearer "))
    assert (await scene.logins.obtain(scene.record, first)).header == second
    assert [form["grant_type"] for form in scene.server.forms] == ["authorization_code", "refresh_token"]


class Slow:
    """A way out on which answers wait. ``asked``: the request was sent; ``go``: the answer may come."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.asked, self.go = asyncio.Event(), asyncio.Event()

    async def request(self, *args: Any, **more: Any) -> Any:
        reply = await self._transport.request(*args, **more)
        self.asked.set()
        await self.go.wait()
        return reply


async def refreshing(scene: Scene, meanwhile: Callable[[], Awaitable[None]]) -> asyncio.Task[Issued]:
    """A refresh that was under way while something else happened, and has its answer now."""
    refused = await scene.logins.obtain(scene.record, None)
    slow = scene.logins._transport = Slow(scene.logins._transport)  # type: ignore[assignment]
    refresh = asyncio.create_task(scene.logins.obtain(scene.record, refused.header))
    await slow.asked.wait()
    await meanwhile()
    slow.go.set()
    await asyncio.wait([refresh])
    return refresh


async def test_a_refresh_under_way_undoes_no_logout(scene: Scene) -> None:
    await scene.login()
    refresh = await refreshing(scene, lambda: scene.logins.forget("notes"))
    with pytest.raises(NeedsAuth, match="wants a login"):
        refresh.result()
    assert scene.logins.of("notes") is None
    assert await scene.store.items(SPACE) == {}


@pytest.mark.parametrize("refuses", [False, True], ids=["refreshed", "refused"])
async def test_a_refresh_under_way_undoes_no_other_login(scene: Scene, refuses: bool) -> None:
    await scene.login()
    old = scene.logins.of("notes")
    assert old is not None
    other = msgspec.structs.replace(old, grant=Grant("another", None, "theirs"))
    if refuses:
        scene.server.refresh.clear()
    refresh = await refreshing(scene, lambda: scene.logins.keep("notes", other))
    assert refresh.result().header == ("authorization", "Bearer another")
    assert scene.logins.of("notes") == other


async def test_a_server_that_is_away_for_a_while_costs_no_login(scene: Scene) -> None:
    await scene.login()
    first = ("authorization", f"Bearer {await scene.token()}")
    scene.server.down = True
    with pytest.raises(NeedsAuth, match="can't get now"):
        await scene.logins.obtain(scene.record, first)
    scene.server.down = False
    assert (await scene.logins.obtain(scene.record, first)).header != first


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"more": {"code_challenge_methods_supported": ["plain"]}}, "PKCE"),
        ({"more": {"code_challenge_methods_supported": []}}, "PKCE"),
        ({"more": {"issuer": "https://evil.example"}}, "another issuer"),
        ({"more": {"token_endpoint": "http://login.example/token"}}, "without TLS"),
        ({"more": {"authorization_endpoint": "javascript:alert(1)"}}, "without TLS"),
        ({"metadata_paths": ()}, "says nothing of itself"),
        ({"registers": False}, "--client-id"),
    ],
)
async def test_servers_that_cant_be_used_are_named(scene: Scene, changes: dict[str, Any], words: str) -> None:
    for name, value in changes.items():
        setattr(scene.server, name, value)
    with pytest.raises(GatewayError) as error:
        await scene.signin.begin(scene.record, ASKED)
    assert words in error.value.message


@pytest.mark.parametrize("resource", ["https://evil.example/mcp", "http://127.0.0.1:1/mcp", "{url}/other"])
async def test_metadata_of_another_resource_is_refused(scene: Scene, resource: str) -> None:
    scene.guard.resource = resource.format(url=scene.guard.url)
    with pytest.raises(GatewayError, match="another resource"):
        await scene.signin.begin(scene.record, ASKED)
    assert not scene.server.authorizations


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "[fd00::1]"])
async def test_an_agent_leads_nobody_into_the_operator_s_network(scene: Scene, host: str) -> None:
    scene.server.url = f"https://{host}"  # what the agent names as its authorization server
    with pytest.raises(GatewayError, match="not a public address"):
        await scene.signin.begin(scene.record, ASKED)


async def test_a_token_endpoint_elsewhere_is_checked_when_it_is_used(scene: Scene) -> None:
    scene.server.more = {"token_endpoint": "https://169.254.169.254/token"}
    pending, answer = await scene.visited()
    with pytest.raises(GatewayError, match="not a public address"):
        await scene.signin.finish(scene.record, pending, answer)


@pytest.mark.parametrize(
    "change", [{"state": "another"}, {"state": ""}, {"iss": "https://evil.example"}, {"iss": None}]
)
async def test_an_answer_that_is_not_of_this_login_is_refused(scene: Scene, change: dict[str, Any]) -> None:
    pending, answer = await scene.visited()
    changed = {k: v for k, v in {**answer, **change}.items() if v is not None}
    with pytest.raises(InvalidRequest):
        await scene.signin.finish(scene.record, pending, changed)
    assert not scene.server.forms  # the code went nowhere


async def test_an_answer_is_good_for_its_own_agent_alone(scene: Scene) -> None:
    pending, answer = await scene.visited()
    for other in (
        Record(name="other", protocol="mcp", url=scene.record.url),
        Record(name="notes", protocol="mcp", url="https://elsewhere.example/mcp"),
    ):
        with pytest.raises(InvalidRequest):
            await scene.signin.finish(other, pending, answer)
    with pytest.raises(InvalidRequest):
        await scene.signin.finish(scene.record, Sealer().seal(b"{}", "registry.signin"), answer)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"url": None, "command": ("x",)}, ASKED),
        ({"headers": {"Authorization": "Bearer ${T}"}}, ASKED),
        ({"oauth": OAuth(token_url="https://a.example", client_id="a", client_secret="${S}")}, ASKED),
        ({}, LoginAsked(redirect_uri="https://evil.example/callback")),
        ({}, LoginAsked(redirect_uri=BACK, client_id="me", client_secret="in clear")),
        ({}, LoginAsked(redirect_uri=BACK, client_secret="${SECRET}")),
    ],
)
async def test_what_cant_be_logged_in_to(scene: Scene, fields: dict[str, Any], asked: LoginAsked) -> None:
    known = {"name": "notes", "protocol": "mcp", "url": f"{scene.guard.url}/mcp"} | fields
    with pytest.raises(InvalidRequest):
        await scene.signin.begin(Record(**known), asked)
    assert not scene.guard.seen


async def test_tokens_are_of_no_use_to_an_agent_at_another_url(scene: Scene) -> None:
    await scene.login()
    moved = Record(name="notes", protocol="mcp", url="https://elsewhere.example/mcp")
    assert not scene.logins.is_in(moved)
    with pytest.raises(NeedsAuth):
        await scene.logins.obtain(moved, None)


def test_a_challenge_is_read_whatever_its_length() -> None:
    said = bearer_challenge('Bearer realm="x", Scope="a b", error=invalid_token')
    assert said == {"realm": "x", "scope": "a b", "error": "invalid_token"}
    assert bearer_challenge("Basic realm=x") == {}
    for long in ("a" * 500_000, "a " * 250_000, 'a="' + "\\" * 250_000, "a" + " " * 500_000):
        assert bearer_challenge(f"Bearer {long}") in ({}, {"a": "\\" * 250_000})  # an hour, were it quadratic
