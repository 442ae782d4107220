"""No secret is anywhere but where it is sent: not in files, logs, listings, traces, metrics or errors."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..conftest import PATIENCE
from ..support.oauth import AuthServer, Guard, Tap, listening

ENV, FILE, CHILD, CLIENT, WRONG = (
    f"s3cret-of-the-{kind}" for kind in ("environment", "file", "child", "client", "wrong-client")
)


class Heard:
    """The command line, with all that it ever said."""

    def __init__(self, cli: Any) -> None:
        self.cli = cli
        self.text = ""

    def __call__(self, *words: object) -> str:
        done = self.cli.run(*words)
        self.text += done.stdout + done.stderr
        return done.stdout + done.stderr


def babbling(status: int, how: str) -> Any:
    """An agent that repeats what it was sent, as a crash, a refusal or a page."""

    def serve(http: Any) -> None:
        said = f"no entry with {http.headers.get('authorization')}"
        if how == "rpc":
            error = {"code": -32603, "message": said, "data": {"trace": said}}
            http.answer(status, {"jsonrpc": "2.0", "id": 1, "error": error})
        else:
            http.answer(status, {"code": "server_error", "message": said, "detail": said})

    return serve


@pytest.mark.slow
def test_no_secret_is_anywhere(start_gateway: Callable[..., Any], peers: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(FILE + "\n")
    with ExitStack() as stack:
        server = stack.enter_context(AuthServer(clients={"me": CLIENT}).running())
        tap = stack.enter_context(Tap(peers.a2a.rstrip("/")).running())
        guard = stack.enter_context(Guard(peers.mcp.removesuffix("/mcp"), server).running())
        hosted = stack.enter_context(Guard(peers.mcp.removesuffix("/mcp"), server).running())
        crashes = stack.enter_context(listening(babbling(500, "rpc")))
        refuses = stack.enter_context(listening(babbling(401, "page")))
        breaks = stack.enter_context(listening(babbling(200, "rpc")))
        gateway = start_gateway(
            TOKEN=ENV, CHILD=CHILD, CLIENT=CLIENT, WRONG=WRONG, AGENTGW_SERVER__WORKERS="2",
        )  # fmt: skip
        run = Heard(gateway.cli)

        # --- agents with secrets of every kind, and mistakes in them
        env, file = "Authorization: Bearer ${TOKEN}", f"Authorization: Bearer ${{file:{tmp_path}/secret}}"
        run("agents", "add", "env", tap.url, "--protocol", "a2a", "--header", env)
        run("agents", "add", "file", tap.url, "--protocol", "a2a", "--header", file)
        run("agents", "add", "clear", tap.url, "--header", "Authorization: Bearer in-clear-by-mistake")
        run("agents", "add", "unset", tap.url, "--protocol", "a2a", "--header", "X-Key: ${UNSET}")
        run("agents", "add", "gone", tap.url, "--protocol", "a2a", "--header", "X: ${file:/no/such/file}")
        run("agents", "add", "child", "--env", "CHILD=${CHILD}", "--", *peers.mcp_stdio)
        for name, url in (("crashes", crashes), ("refuses", refuses), ("breaks", breaks)):
            for protocol in ("mcp", "a2a", "acp"):
                run("agents", "add", f"{name}-{protocol}", url, "--protocol", protocol, "--header", env)
        oauth = ["--protocol", "mcp", "--oauth-token-url", f"{server.url}/token", "--oauth-client-id", "me"]
        for name, secret in (("client", "${CLIENT}"), ("wrong", "${WRONG}")):
            run("agents", "add", name, f"{guard.url}/mcp", *oauth, "--oauth-client-secret", secret)
        run("agents", "add", "hosted", f"{hosted.url}/mcp", "--protocol", "mcp")
        login = [gateway.cli.script, "agents", "login", "hosted", "--no-browser"]
        with subprocess.Popen(
            login, env=gateway.cli.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as command:
            assert command.stdout is not None
            for line in command.stdout:
                run.text += line
                if line.startswith("http"):
                    httpx.get(line.strip(), follow_redirects=True)
            assert command.wait(PATIENCE) == 0, run.text

        # --- calls that go well, and ones that fail in every way
        tool = ["--skill", "echo", "--data", '{"text": "hi"}', "--json"]
        for name in ("env", "file"):
            assert "hi" in run("call", name, "echo hi", "--json")
        for name in ("child", "client", "hosted"):
            assert "hi" in run("call", name, *tool)
        server.expire()
        for name in ("client", "hosted"):
            assert "hi" in run("call", name, *tool)
        names = [agent["name"] for agent in gateway.cli.json("agents", "list")]
        assert "clear" not in names
        message = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "hi"}]}
        send = {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": {"message": message}}
        for name in names:
            run.text += httpx.post(f"{gateway.url}/a2a/{name}/", json=send).text
        for name in ("crashes-mcp", "refuses-a2a", "breaks-acp", "unset"):
            run("call", name, "hi", "--json")
        server.revoke()
        server.clients["me"] = "changed"
        for name in ("client", "hosted", "wrong"):
            assert "upstream_unauthorized" in run("call", name, *tool)
        run("agents", "check", "--json")

        # --- all that can be seen
        for words in (["agents", "list"], ["traces", "--limit", "1000"], ["doctor"]):
            run(*words)
            run(*words, "--json")
        for name in ("env", "child", "client", "hosted"):
            run("agents", "show", name)
        token = json.loads((gateway.cli.home / "owner.json").read_bytes())["token"]
        owner = {"Authorization": f"Bearer {token}"}
        traces = [trace["trace_id"] for trace in gateway.cli.json("traces", "--limit", "1000")]
        run("traces", "show", traces[0], "--json")
        for path in (*(f"traces/{trace}" for trace in traces), *(f"agents/{name}" for name in names)):
            run.text += httpx.get(f"{gateway.url}/api/{path}", headers=owner).raise_for_status().text
        for path in ("/", "/metrics", "/api/agents", "/acp/agents", "/.well-known/agent-card.json"):
            run.text += httpx.get(gateway.url + path).text
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
        accept = {"Accept": "application/json, text/event-stream"}
        run.text += httpx.post(f"{gateway.url}/mcp", json=body, headers=accept, timeout=PATIENCE).text
        gateway.process.stop()
        files = [path for path in gateway.cli.home.rglob("*") if path.is_file()]
        assert {"audit.jsonl", "owner.json"} & {path.name for path in files} and len(files) > 2
        seen = run.text.encode() + gateway.process.output.encode()
        seen += b"".join(path.read_bytes() for path in files)

        assert any(f"Bearer {ENV}" in sent for sent in tap.seen)  # they were there to be leaked
        assert any(f"Bearer {FILE}" in sent for sent in tap.seen)
        secrets = {ENV, FILE, CHILD, CLIENT, WRONG, "in-clear-by-mistake", *server.issued}
        verifiers = {f["code_verifier"] for f in server.forms if "code_verifier" in f}
        assert len(server.issued) > 4 and verifiers
        for secret in secrets | verifiers:
            at = seen.find(secret.encode())
            assert at < 0, f"{secret} is in: {seen[max(at - 300, 0) : at + 100]!r}"
