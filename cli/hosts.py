"""The clients that ``agentgw connect`` knows: where their configuration is, and what goes into it.

Adding one is adding a line to ``HOSTS``. The forms follow what the clients' documentation, and guides where
that was not at hand, said in 2026-11; only the Inspector was run against a gateway (a test does). Zed puts no
variables into headers, so its key is a blank to fill in.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """What a client is pointed at. ``url``: the gateway's base; ``agent`` None: all agents; ``keyed``:
    whether the gateway wants a key, which clients take from ``AGENTGW_TOKEN``; ``environment``:
    what a command of ours must find set to reach the same gateway."""

    url: str
    agent: str | None = None
    keyed: bool = False
    environment: Mapping[str, str] = {}

    @property
    def mcp(self) -> str:
        return f"{self.url}/mcp" + (f"/{self.agent}" if self.agent else "")

    @property
    def entry(self) -> str:
        """The name under which a host lists the gateway."""
        return f"agentgw-{self.agent}" if self.agent else "agentgw"


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """A client with a JSON file: ``key`` holds the servers, ``server`` makes ours. ``add`` is a command that
    the client has for the same (shown instead of the file). ``extra`` goes beside ``key``."""

    title: str
    path: Callable[[], Path]
    key: str
    server: Callable[[Place], dict[str, Any]]
    add: Callable[[Place], str] | None = None
    extra: Callable[[Place], dict[str, Any]] = lambda place: {}


def _remote(place: Place, url_key: str = "url", token: str = "${env:AGENTGW_TOKEN}") -> dict[str, Any]:
    headers = {"headers": {"Authorization": f"Bearer {token}"}} if place.keyed else {}
    return {url_key: place.mcp, **headers}


def _vscode(place: Place) -> dict[str, Any]:
    return {"type": "http", **_remote(place, token="${input:agentgw-token}")}


def _vscode_inputs(place: Place) -> dict[str, Any]:
    prompt = {"type": "promptString", "id": "agentgw-token", "description": "agentgw key", "password": True}
    return {"inputs": [prompt]} if place.keyed else {}


def _command(place: Place) -> dict[str, Any]:
    arguments = ["mcp", *(["--agent", place.agent] if place.agent else [])]
    env = {"env": dict(place.environment)} if place.environment else {}
    return {"command": _executable(), "args": arguments, **env}


def _executable() -> str:
    """The full path of the running ``agentgw``: hosts are started by a desktop, which knows neither an
    activated environment nor what a shell puts on its path."""
    here = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name.startswith("agentgw") else None
    found = here or shutil.which("agentgw")
    return str(Path(found).absolute()) if found else "agentgw"


def _claude_code(place: Place) -> str:
    key = ' --header "Authorization: Bearer $AGENTGW_TOKEN"' if place.keyed else ""
    return f"claude mcp add --transport http {place.entry} {place.mcp}{key}"


def _home(*parts: str) -> Callable[[], Path]:
    return lambda: Path.home().joinpath(*parts)


def _claude_desktop_file() -> Path:
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    elif os.name == "nt":
        base = Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    else:
        base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return base / "Claude" / "claude_desktop_config.json"


def _zed_file() -> Path:
    if os.name == "nt":
        return Path(os.environ.get("APPDATA") or Path.home()) / "Zed" / "settings.json"
    if sys.platform == "darwin":
        return Path.home() / ".config" / "zed" / "settings.json"
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "zed" / "settings.json"


HOSTS: Mapping[str, Host] = {
    "cursor": Host(
        title="Cursor", path=_home(".cursor", "mcp.json"), key="mcpServers", server=_remote,
    ),
    "vscode": Host(
        title="VS Code", path=lambda: Path(".vscode") / "mcp.json", key="servers", server=_vscode,
        extra=_vscode_inputs,
    ),
    "claude-desktop": Host(
        title="Claude Desktop", path=_claude_desktop_file, key="mcpServers", server=_command,
    ),
    "claude-code": Host(
        title="Claude Code", path=lambda: Path(".mcp.json"), key="mcpServers", add=_claude_code,
        server=lambda place: {"type": "http", **_remote(place, token="${AGENTGW_TOKEN}")},
    ),
    "windsurf": Host(
        title="Windsurf", path=_home(".codeium", "windsurf", "mcp_config.json"), key="mcpServers",
        server=lambda place: _remote(place, "serverUrl"),
    ),
    "zed": Host(
        title="Zed", path=_zed_file, key="context_servers",
        server=lambda place: _remote(place, token="YOUR_AGENTGW_KEY"),
    ),
}  # fmt: skip


def _inspector(place: Place) -> str:
    key = ' --header "Authorization: Bearer $AGENTGW_TOKEN"' if place.keyed else ""
    return f"npx @modelcontextprotocol/inspector --transport http --server-url {place.mcp}{key}"


def _acp(place: Place) -> str:
    key = ', headers={"Authorization": "Bearer " + os.environ["AGENTGW_TOKEN"]}' if place.keyed else ""
    return f"""\
base URL  {place.url}/acp
agent     {place.agent or "NAME"}

from acp_sdk.client import Client

async with Client(base_url="{place.url}/acp"{key}) as client:
    run = await client.run_sync(agent="{place.agent or "NAME"}", input="hello")"""


def _a2a(place: Place) -> str:
    # JavaScript clients resolve the card against the URL: without its final slash the agent's name is lost.
    base = f"{place.url}/a2a/{place.agent}/" if place.agent else f"{place.url}/"
    what = f"the agent {place.agent}" if place.agent else "all agents, one skill each"
    each = "" if place.agent else f"\none agent  {place.url}/a2a/NAME/"
    key = "\nheader    Authorization: Bearer $AGENTGW_TOKEN" if place.keyed else ""
    return f"""\
URL        {base}   ({what}){each}
card       {base}.well-known/agent-card.json{key}"""


PRINTED: Mapping[str, Callable[[Place], str]] = {"inspector": _inspector, "acp": _acp, "a2a": _a2a}
"""Clients without a file to write: what to run, or where to point them."""


def document(host: Host, place: Place) -> dict[str, Any]:
    """The host's file with nothing but the gateway in it."""
    return {**host.extra(place), host.key: {place.entry: host.server(place)}}
