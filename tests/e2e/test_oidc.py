"""Tokens of an issuer at every door, and how MCP hosts find their way to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client as McpClient
from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

from ..conftest import PATIENCE
from ..support.issuer import AUDIENCE, CLIENT, SECRET, Issuer
from .conftest import Cli
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
    gateway.cli("agents", "add", "talk", peers.a2a, "--protocol", "a2a")
    gateway.cli("agents", "add", "tools", peers.mcp, "--protocol", "mcp")
    yield Guarded(gateway.url, gateway.cli, "", {"anonymous": None})
    gateway.process.stop()


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


def test_a_stream_ends_with_its_token(guarded: Guarded, issuer: Issuer) -> None:
    import time

    token = issuer.token(scope="everything", exp=int(time.time()) - 57)  # clocks may be 60 s apart
    hello = {
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"},
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
    with httpx.Client(base_url=guarded.url, headers=headers, timeout=PATIENCE) as http:
        body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        session = {"Mcp-Session-Id": http.post("/mcp", json=body).headers["mcp-session-id"]}
        with http.stream("GET", "/mcp", headers=session) as stream, pytest.raises(httpx.RemoteProtocolError):
            for _ in stream.iter_bytes():
                pass
        assert http.get("/mcp", headers=session).status_code == 401


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
def public(
    spawn: Any, free_port: Any, agentgw: Path, peers: Any, issuer: Issuer, tmp_path_factory: Any
) -> Iterator[str]:
    """The URL of a gateway that is the audience itself."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"AGENTGW_AUTH__ISSUER": issuer.url, "AGENTGW_AUTH__SCOPES": json.dumps(SCOPES)}
    cli = Cli(agentgw, tmp_path_factory.mktemp("home"), settings)
    words = [agentgw, "serve", "--port", port, "--public-url", url]
    process = spawn("gateway", words, port=port, env=cli.environment, cwd=cli.home)
    cli("agents", "add", "tools", peers.mcp, "--protocol", "mcp")
    yield url
    process.stop()


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
