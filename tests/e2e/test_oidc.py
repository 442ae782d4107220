"""Tokens of an issuer at every door, and how MCP hosts find their way to it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import jwt
import pytest
from mcp import Client as McpClient
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import (
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
    OAuthToken,
)
from pydantic import AnyUrl

from ..conftest import PATIENCE, wait_until
from ..support.issuer import AUDIENCE, CLIENT, SECRET, Issuer
from ..support.oauth import AuthServer, Token
from ..support.serving import serving
from .conftest import Cli, register
from .test_access import Guarded, asked, judged, mcp, mcp_one, run_of

SCOPES = {"talking": ["talk"], "tools": ["tools"], "everything": ["*"]}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        yield running


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)], ids=["alone", "workers"])
def guarded(request: Any, launch_gateway: Any, peers: Any, issuer: Issuer) -> Iterator[Guarded]:
    gateway = launch_gateway(
        "--workers",
        request.param,
        AGENTGW_AUTH__ISSUER=issuer.url,
        AGENTGW_AUTH__AUDIENCE=json.dumps([AUDIENCE]),
        AGENTGW_AUTH__SCOPES=json.dumps(SCOPES),
        AGENTGW_AUTH__ADMIN_SCOPE="gateway:admin",
    )
    register(gateway, "talk", url=peers.a2a, protocol="a2a")
    register(gateway, "tools", url=peers.mcp, protocol="mcp")
    yield Guarded(gateway.url, gateway.cli, "", {"anonymous": None})
    gateway.process.stop()
    assert "Traceback" not in gateway.process.output


def as_caller(guarded: Guarded, issuer: Issuer, caller: str, **claims: Any) -> None:
    guarded.secrets[caller] = issuer.token(sub=caller, **claims)


DOORS = {
    "/mcp": mcp("2026-07-28"),
    "/mcp/{agent}": mcp_one("legacy"),
    "/a2a card": asked("GET", "/a2a/{agent}/.well-known/agent-card.json"),
    "/acp/runs": asked("POST", "/acp/runs", run_of),
}


@pytest.mark.parametrize("agent", ["talk", "tools"])
@pytest.mark.parametrize("door", DOORS)
async def test_scopes_open_agents(door: str, agent: str, guarded: Guarded, issuer: Issuer) -> None:
    async def met(scope: str, caller: str, **claims: Any) -> str:
        as_caller(guarded, issuer, caller, scope=scope, **claims)
        try:
            return await DOORS[door](guarded, caller, agent)
        except AssertionError:
            raise
        except BaseException as error:
            return judged(error)

    assert await met("talking", "key-of-talk") == ("served" if agent == "talk" else "unknown")
    assert await met("tools", "key-of-tools") == ("served" if agent == "tools" else "unknown")
    assert await met("everything", "admin-key") == "served"
    assert await met("everything", "anonymous", aud="others") == "refused"


LACKING = {
    "/mcp": {"method": "tools/list"},
    "/mcp/talk": {"method": "tools/list"},
    "/mcp/absent": {"method": "tools/list"},
    "/a2a/talk/": {"method": "GetTask", "params": {"id": "1"}},
    "/acp/runs": {"agent_name": "talk", "input": []},
    "/": {"method": "message/send"},
}


@pytest.mark.parametrize("path", LACKING)
def test_a_token_that_reaches_nothing_is_told_what_to_ask_for(
    path: str, guarded: Guarded, issuer: Issuer
) -> None:
    headers = {"Authorization": f"Bearer {issuer.token(scope='profile')}"}
    body = {"jsonrpc": "2.0", "id": 1} | LACKING[path]
    refused = httpx.post(guarded.url + path, json=body, headers=headers)
    assert (refused.status_code, "reach no agent" in refused.text) == (403, True)
    assert ("jsonrpc" in refused.json()) == (path != "/acp/runs")  # in the door's own form
    challenge = refused.headers["www-authenticate"]
    where = f"{guarded.url}/.well-known/oauth-protected-resource"
    there = path.rstrip("/") if path != "/acp/runs" else ""
    assert challenge == (
        'Bearer realm="agentgw", error="insufficient_scope", scope="talking tools everything", '
        f'resource_metadata="{where}{there}"'
    )
    assert httpx.get(f"{guarded.url}/.well-known/agent-card.json", headers=headers).json()["skills"] == []


@pytest.mark.parametrize("path", ["/mcp/tools", "/mcp/absent"])
def test_a_token_that_reaches_some_agents_is_told_of_no_others(
    path: str, guarded: Guarded, issuer: Issuer
) -> None:
    """Nor which scope would open them."""
    headers = {"Authorization": f"Bearer {issuer.token(scope='talking')}"}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    answer = httpx.post(guarded.url + path, json=body, headers=headers)
    name = path.rpartition("/")[2]
    said = answer.text.replace(name, "NAME")
    assert "www-authenticate" not in answer.headers
    other = httpx.post(f"{guarded.url}/mcp/never", json=body, headers=headers)
    assert (answer.status_code, said) == (other.status_code, other.text.replace("never", "NAME"))


def test_the_admin_scope_alone_opens_the_control_plane_and_no_door(guarded: Guarded, issuer: Issuer) -> None:
    headers = {"Authorization": f"Bearer {issuer.token(scope='gateway:admin')}"}
    assert httpx.get(f"{guarded.url}/api/agents", headers=headers).status_code == 200
    assert httpx.get(f"{guarded.url}/metrics", headers=headers).status_code == 200
    assert httpx.get(f"{guarded.url}/acp/agents", headers=headers).status_code == 403


def test_the_admin_scope_opens_the_control_plane(guarded: Guarded, issuer: Issuer) -> None:
    def status(scope: str) -> int:
        headers = {"Authorization": f"Bearer {issuer.token(scope=scope)}"}
        return httpx.get(f"{guarded.url}/api/agents", headers=headers).status_code

    assert status("everything gateway:admin") == 200
    assert status("everything") == 403
    assert httpx.get(f"{guarded.url}/api/agents").status_code == 401


def test_keys_and_the_owner_come_in_beside_it(guarded: Guarded) -> None:
    secret = guarded.cli.json("keys", "create", "beside")["secret"]
    headers = {"Authorization": f"Bearer {secret}"}
    assert httpx.get(f"{guarded.url}/acp/agents", headers=headers).status_code == 200


@pytest.mark.parametrize("path", ["/mcp", "/mcp/talk", "/mcp/absent", "/acp/agents", "/a2a/talk/"])
def test_a_refusal_leads_to_the_issuer(path: str, guarded: Guarded, issuer: Issuer) -> None:
    refused = httpx.post(guarded.url + path, json={})
    assert refused.status_code == 401
    url = refused.headers["www-authenticate"].partition('resource_metadata="')[2].partition('"')[0]
    found = httpx.get(url).json()
    assert found["authorization_servers"] == [issuer.url]
    assert found["resource"] == guarded.url + ("" if path == "/acp/agents" else path.rstrip("/"))
    assert found["scopes_supported"] == list(SCOPES)


@pytest.mark.parametrize(
    ("path", "status"),
    [("", 200), ("/mcp", 200), ("/mcp/anything", 200), ("/mcp/a/b", 404), ("/elsewhere", 404), ("x", 404)],
)
def test_only_what_is_there_is_a_resource(path: str, status: int, guarded: Guarded) -> None:
    assert httpx.get(f"{guarded.url}/.well-known/oauth-protected-resource{path}").status_code == status


def test_the_card_names_the_issuer(guarded: Guarded, issuer: Issuer) -> None:
    card = httpx.get(f"{guarded.url}/.well-known/agent-card.json").json()
    url = f"{issuer.url}/.well-known/openid-configuration"
    assert card["securitySchemes"]["openid"]["openIdConnectSecurityScheme"] == {"openIdConnectUrl": url}
    assert card["security"] == [{"bearer": []}, {"openid": []}]
    assert card["skills"] == []


LASTING = (3, 12, 48)  # seconds: a busy machine may take longer to begin than the token is good


def lasting(issuer: Issuer, seconds: int, **claims: Any) -> dict[str, str]:
    """The header with a token that is good for so long."""
    token = issuer.token(exp=int(time.time()) - 60 + seconds, **claims)  # clocks may be 60 s apart
    return {"Authorization": f"Bearer {token}"}


def is_over(guarded: Guarded, token: dict[str, str]) -> bool:
    return httpx.get(f"{guarded.url}/acp/agents", headers=token).status_code == 401


def test_a_stream_ends_with_its_token(guarded: Guarded, issuer: Issuer) -> None:
    assert any(ends_with_its_token(guarded, issuer, seconds) for seconds in LASTING), "it was never good"


def ends_with_its_token(guarded: Guarded, issuer: Issuer, seconds: int) -> bool:
    """Whether a stream was opened with the token, which then ended with it."""
    hello = {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"},
    }  # fmt: skip
    accept = {"Accept": "application/json, text/event-stream"}
    headers = lasting(issuer, seconds, scope="everything") | accept
    with httpx.Client(base_url=guarded.url, headers=headers, timeout=PATIENCE) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        begun = http.post("/mcp", json=body)
        if begun.status_code == 401:
            return False
        session = {"Mcp-Session-Id": begun.headers["mcp-session-id"]}
        with http.stream("GET", "/mcp", headers=session) as stream:
            if stream.status_code == 401:
                return False
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in stream.iter_bytes():
                    pass
        assert http.get("/mcp", headers=session).status_code == 401
    return True


def test_what_a_subject_began_goes_on_when_its_token_ends(
    guarded: Guarded, issuer: Issuer, peers: Any
) -> None:
    """It may come back with another, and finds what it began."""
    work = f"lasting-{uuid.uuid4()}"
    body = run_of("talk") | {"mode": "async"}
    body["input"][0]["parts"][0]["content"] = f"work {work} 100000"
    with httpx.Client(base_url=guarded.url, timeout=PATIENCE) as http:
        for seconds in LASTING:
            token = lasting(issuer, seconds, sub=work, scope="talking")
            begun = http.post("/acp/runs", json=body, headers=token)
            if begun.status_code != 401:
                break
        run = f"/acp/runs/{begun.json()['run_id']}"
        noted = lambda what: f"{work} {what}" in peers.journal.path.read_text().splitlines()  # noqa: E731
        wait_until("the work begins", lambda: noted("started"))
        wait_until("the token has ended", lambda: is_over(guarded, token))
        other = {"Authorization": f"Bearer {issuer.token(sub='somebody', scope='talking')}"}
        assert http.get(run, headers=other).status_code == 404
        again = {"Authorization": f"Bearer {issuer.token(sub=work, scope='talking')}"}
        assert http.get(run, headers=again).json()["status"] == "in-progress"
        assert not noted("stopped")
        http.post(f"{run}/cancel", headers=again)
        wait_until("the work is stopped", lambda: noted("stopped"))


def test_a_key_stands_for_itself_whoever_made_it(guarded: Guarded, issuer: Issuer) -> None:
    """It does not end with the token of the admin who made it; the audit log says who that was."""
    name, admin = f"made-{uuid.uuid4()}", f"admin-{uuid.uuid4()}"
    for seconds in LASTING:
        token = lasting(issuer, seconds, sub=admin, scope="everything gateway:admin")
        made = httpx.post(f"{guarded.url}/api/keys", json={"name": name}, headers=token)
        if made.status_code != 401:
            break
    wait_until("the token has ended", lambda: is_over(guarded, token))
    key = {"Authorization": f"Bearer {made.json()['secret']}"}
    assert httpx.get(f"{guarded.url}/acp/agents", headers=key).status_code == 200

    def recorded() -> list[Any]:
        *lines, _ = (guarded.cli.home / "audit.jsonl").read_text().split("\n")  # the last may be half a line
        return [line for line in map(json.loads, lines) if line.get("subject") == name]

    (line,) = wait_until("it is written", recorded)
    assert (line["event"], line["operation"]) == ("change", "POST /api/keys")
    assert line["principal"] == f"{issuer.url}#{admin}"
    guarded.cli("keys", "revoke", name)
    assert httpx.get(f"{guarded.url}/acp/agents", headers=key).status_code == 401


def test_a_token_of_no_time_is_refused_like_any(guarded: Guarded, issuer: Issuer) -> None:
    kid, (algorithm, key) = next(iter(issuer.keys.items()))
    said = {"iss": issuer.url, "sub": "ann", "aud": AUDIENCE, "exp": 10**400, "scope": "everything"}
    token = jwt.api_jws.encode(json.dumps(said).encode(), key, algorithm, headers={"kid": kid})
    for path in ("/mcp", "/acp/agents", "/a2a/talk/", "/api/agents"):
        refused = httpx.get(guarded.url + path, headers={"Authorization": f"Bearer {token}"})
        assert (refused.status_code, "not valid" in refused.text) == (401, True)


def test_before_scopes_are_named_tokens_reach_nothing(start_gateway: Any, issuer: Issuer) -> None:
    gateway = start_gateway(AGENTGW_AUTH__ISSUER=issuer.url, AGENTGW_AUTH__AUDIENCE=json.dumps([AUDIENCE]))
    register(gateway, "nowhere", url="http://127.0.0.1:9/", protocol="acp")
    headers = {"Authorization": f"Bearer {issuer.token(scope='everything')}"}
    assert httpx.get(f"{gateway.url}/acp/agents", headers=headers).json() == {"agents": []}
    assert "auth.scopes is empty" in gateway.process.output
    assert f"Callers need a token of {issuer.url}" in gateway.process.output


class Storage:
    """Keeps what the SDK got for as long as the test."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


@pytest.fixture(scope="module")
def launch_public(
    spawn: Any, free_port: Any, agentgw: Path, forked: Any, peers: Any, tmp_path_factory: Any
) -> Iterator[Callable[[str], str]]:
    """Start a gateway that is the audience of an issuer's tokens itself; its URL."""
    started: list[Any] = []

    def start(issuer: str) -> str:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        settings = {"AGENTGW_AUTH__ISSUER": issuer, "AGENTGW_AUTH__SCOPES": json.dumps(SCOPES)}
        cli = Cli(agentgw, tmp_path_factory.mktemp("home"), forked, settings)
        started.append(serving(spawn, cli, port, "--public-url", url))
        cli("agents", "add", "tools", peers.mcp, "--protocol", "mcp")
        return url

    yield start
    for process in started:
        process.stop()
        assert "Traceback" not in process.output


@pytest.fixture(scope="module")
def public(launch_public: Callable[[str], str], issuer: Issuer) -> str:
    return launch_public(issuer.url)


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("path", ["/mcp", "/mcp/tools"])
async def test_an_mcp_host_finds_its_way(path: str, mode: str, public: str, issuer: Issuer) -> None:
    """It knows the URL of the gateway and its own credentials at the issuer, and nothing else."""
    url = public + path
    auth = ClientCredentialsOAuthProvider(
        url, Storage(), CLIENT, SECRET, token_endpoint_auth_method="client_secret_post", issuer=issuer.url
    )
    async with (
        httpx2.AsyncClient(auth=auth, timeout=PATIENCE) as http,
        McpClient(streamable_http_client(url, http_client=http), mode=mode) as client,
    ):
        names = {tool.name for tool in (await client.list_tools()).tools}
    assert ("echo" if path == "/mcp/tools" else "tools__echo") in names
    assert issuer.asked[-1]["resource"] == url


# --- a person in a browser ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def login() -> Iterator[AuthServer]:
    """An authorization server where people log in; who does is Ann. Its access tokens are signed."""
    signer = Issuer()

    def signs(token: Token) -> str:
        return signer.token(iss=login.url, sub="ann", aud=token.resource, scope=token.scope)

    login = AuthServer(signs=signs, keys=signer.jwks(), more={"client_id_metadata_document_supported": True})
    with login.running():
        yield login


@pytest.fixture(scope="module")
def for_people(launch_public: Callable[[str], str], login: AuthServer) -> str:
    return launch_public(login.url)


class Browser:
    """Opens the page that it is sent to, and comes back to the host with what stands in the redirect."""

    came_back: AuthorizationCodeResult

    async def open(self, url: str) -> None:
        async with httpx.AsyncClient() as http:
            answer = await http.get(url)
        query = httpx.URL(answer.headers["location"]).params
        self.came_back = AuthorizationCodeResult(code=query["code"], state=query["state"], iss=query["iss"])

    async def result(self) -> AuthorizationCodeResult:
        return self.came_back


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
@pytest.mark.parametrize("path", ["/mcp", "/mcp/tools"])
@pytest.mark.parametrize("client", [None, "https://host.example/oauth/client.json"], ids=["dcr", "cimd"])
async def test_a_person_logs_in(
    client: str | None, path: str, mode: str, for_people: str, login: AuthServer
) -> None:
    """The host knows the URL of the gateway, and of its client at most where that is described."""
    url, browser, storage = for_people + path, Browser(), Storage()
    auth = OAuthClientProvider(
        url,
        OAuthClientMetadata(client_name="host", redirect_uris=[AnyUrl("http://127.0.0.1:3/callback")]),
        storage,
        browser.open,
        browser.result,
        client_metadata_url=client,
    )
    registered = len(login.registrations)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=30) as http,
        McpClient(streamable_http_client(url, http_client=http), mode=mode) as host,
    ):
        prefix = "" if path == "/mcp/tools" else "tools__"
        answer = await host.call_tool(f"{prefix}echo", {"text": "hello"})
    assert "hello" in str(answer.content)
    assert len(login.registrations) == registered + (client is None)
    asked = login.authorizations[-1]
    assert (asked["resource"], asked["code_challenge_method"]) == (url, "S256")
    assert set(asked["scope"].split()) >= set(SCOPES)
    assert login.forms[-1]["resource"] == url
