"""Other gateways in the same rounds: FastMCP as a proxy, ContextForge; MCP with the handshake, one tool.

Each runs in an environment of its own, which uv makes from its script's first lines (``gateways/``). What
can't be had is left out.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Generator
from urllib.error import URLError
from urllib.request import Request, urlopen

import msgspec
from account import CORES, family
from measure import Bench, Limit, middle, rate, ratio
from parties import HERE, Proxy, free_port, process, until_up
from rows import SMALL, Row, mcp, relays

TIMES = Limit(20, 100, least=True)
SECRET = b"only-for-a-benchmark-on-loopback-0123456789"  # also in gateways/contextforge.py


def peers(b: Bench) -> None:
    b.part(
        "Other gateways: MCP with the handshake, 300 B, 16 at once",
        "Times: their CPU a request over agentgw's, and agentgw's rate over theirs.",
    )
    b.table(
        "gateway", "µs", "agentgw µs", "times", "/s", "agentgw /s", "times", "verdict CPU", "verdict rate"
    )
    for name, script, tool, path in (
        ("FastMCP proxy", "fastmcp_proxy.py", "echo", "/mcp"),
        ("ContextForge", "contextforge.py", "bench-echo", "/mcp"),
    ):
        row = msgspec.structs.replace(mcp("", {"text": SMALL}, modern=False, tool=tool), through=path)
        try:
            with _STARTED[script](b, script) as peer:
                _compared(b, name, row, peer)
        except (OSError, RuntimeError, subprocess.SubprocessError) as e:
            b.say(f"| {name} | left out: {str(e)[:100]} |" + " - |" * 7)


def _compared(b: Bench, name: str, row: Row, peer: Proxy) -> None:
    rounds = b.alternating(b.calls(row, peer, 16), b.calls(relays()[1], b.ours, 16))
    theirs, ours = middle(rounds[0]), middle(rounds[1])
    cost, speed = ratio(rounds[0], rounds[1]), ratio(rounds[1], rounds[0], rate)
    b.row(
        name, f"{theirs.us:.0f}", f"{ours.us:.0f}", f"{cost:.0f}", f"{theirs.rate:.0f}", f"{ours.rate:.0f}",
        f"{speed:.0f}", b.verdict(f"{name}, times its CPU", cost, TIMES),
        b.verdict(f"{name}, times its rate", speed, TIMES),
    )  # fmt: skip


@contextlib.contextmanager
def _script(script: str, *words: str) -> Generator[tuple[int, subprocess.Popen[bytes]]]:
    """Its port and the process that uv runs it in."""
    uv = shutil.which("uv")
    if uv is None:
        raise RuntimeError("uv is not on the path")
    path = HERE / "gateways" / script
    subprocess.run([uv, "sync", "-q", "--script", path], check=True, timeout=600, capture_output=True)
    port = free_port()
    command = (uv, "run", "-q", "--script", path, str(port), *words)
    out = subprocess.DEVNULL
    with process(*command, cores=CORES.proxy(), stdout=out, stderr=out) as started:
        yield port, started


@contextlib.contextmanager
def _fastmcp(b: Bench, script: str) -> Generator[Proxy]:
    with _script(script, f"http://127.0.0.1:{b.direct.port}/mcph") as (port, started):
        until_up(port, "/mcp", started, seconds=120)
        yield Proxy(script, port, family(started.pid))


@contextlib.contextmanager
def _contextforge(b: Bench, script: str) -> Generator[Proxy]:
    home = b.home / "contextforge"
    home.mkdir()
    with _script(script, str(home)) as (port, started):
        until_up(port, "/health", started, seconds=300)
        agent = {
            "name": "bench",
            "url": f"http://127.0.0.1:{b.direct.port}/mcph",
            "transport": "STREAMABLEHTTP",
            "visibility": "public",
        }
        headers = {"authorization": f"Bearer {_token()}", "content-type": "application/json"}
        request = Request(f"http://127.0.0.1:{port}/gateways", json.dumps(agent).encode(), headers)
        try:
            urlopen(request, timeout=60).close()
        except URLError as e:
            raise RuntimeError(f"it does not take an agent: {e}") from e
        yield Proxy(script, port, family(started.pid))


def _token() -> str:
    """An administrator's, as ContextForge makes them."""
    now = int(time.time())
    user = {"email": "admin@example.com", "full_name": "a", "is_admin": True, "auth_provider": "local"}
    claims = {
        "sub": user["email"], "iss": "mcpgateway", "aud": "mcpgateway-api", "iat": now, "exp": now + 3600,
        "jti": str(now), "is_admin": True, "teams": None, "token_use": "session", "user": user,
    }  # fmt: skip
    signed = b".".join(
        _base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims)
    )
    return (signed + b"." + _base64(hmac.digest(SECRET, signed, "sha256"))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


Starting = Callable[[Bench, str], contextlib.AbstractContextManager[Proxy]]
_STARTED: dict[str, Starting] = {"fastmcp_proxy.py": _fastmcp, "contextforge.py": _contextforge}
