"""The whole thing in one command, from the checkout: `uv run examples/financial_analyst/demo.py [QUESTION]`.

Starts a gateway with a registry of its own, the analyst's ACP server and, where no Ollama answers, the
stand-in model; registers the analyst twice, as an MCP server and as an ACP agent; asks both, through the
gateway, from an MCP host, an A2A client, an ACP client and the command line. Saves every plot in plots/ and
compares them.
"""

import asyncio
import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
UV = os.environ.get("UV", "uv")  # `uv run` sets it to its own path
if find_spec("agentgw") is None:  # uv took the example's environment; this needs the gateway's
    os.environ.pop("VIRTUAL_ENV", None)
    os.execvp(UV, [UV, "run", "--project", str(HERE.parents[1]), "python", *sys.argv])

import httpx  # noqa: E402
from mcp import Client  # noqa: E402

PLOTS = HERE / "plots"
LOG = PLOTS / "servers.log"
QUESTION = "plot the closing prices of AAPL and MSFT, last 3 months"
EXAMPLE_PYTHON = [UV, "run", "--project", str(HERE), "python"]
AGENTGW = [str(Path(sys.executable).with_name("agentgw"))]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def start(stack: ExitStack, command: list[str], environment: dict[str, str], ready: str) -> None:
    """Start a server that is stopped with the stack; returns once the URL `ready` answers."""
    log = stack.enter_context(LOG.open("ab"))
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    stack.callback(process.wait)
    stack.callback(process.terminate)
    deadline = time.monotonic() + 300  # the first start makes the example's environment
    while not answers(ready):
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{' '.join(command)} does not start; {LOG} says more")
        time.sleep(0.1)


async def ask_mcp(gateway: str, tool: str, arguments: dict[str, str]) -> Any:
    """What an MCP host does: one endpoint, every agent a tool; progress arrives while the crew works."""

    async def show(progress: float, total: float | None, message: str | None) -> None:
        print(f"    {message or progress}")

    async with Client(f"{gateway}/mcp") as client:
        result = await client.call_tool(tool, arguments, progress_callback=show)
        return result.model_dump(mode="json", by_alias=True)


def ask_a2a(gateway: str, agent: str, question: str) -> Any:
    """What an A2A client does: a message, and a stream of task updates and artifacts."""
    message = {"messageId": "1", "role": "ROLE_USER", "parts": [{"text": question}]}
    request = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": message}}
    headers = {"A2A-Version": "1.0", "Accept": "text/event-stream"}
    url = f"{gateway}/a2a/{agent}"
    with httpx.stream("POST", url, json=request, headers=headers, timeout=300) as response:
        return [json.loads(line[5:]) for line in response.iter_lines() if line.startswith("data:")]


def ask_acp(gateway: str, agent: str, question: str) -> Any:
    """What an ACP client does: a run, and its output."""
    message = {"role": "user", "parts": [{"content_type": "text/plain", "content": question}]}
    request = {"agent_name": agent, "mode": "sync", "input": [message]}
    return httpx.post(f"{gateway}/acp/runs", json=request, timeout=300).json()


def strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from strings(item)
        case list():
            for item in value:
                yield from strings(item)


def plot_in(answer: Any) -> bytes:
    """The PNG in an answer of whatever protocol: each of them carries it as base64."""
    images = [text for text in strings(answer) if text.startswith("iVBORw0KGgo")]
    if not images:
        raise SystemExit(f"No plot in {json.dumps(answer)[:2000]}")
    return base64.b64decode(images[0])


def main() -> None:
    question = " ".join(sys.argv[1:]) or QUESTION
    plots: dict[str, bytes] = {}
    PLOTS.mkdir(exist_ok=True)
    LOG.unlink(missing_ok=True)

    def keep(title: str, answer: Any) -> None:
        plots[title] = plot_in(answer)
        (PLOTS / f"{title.replace(' ', '_')}.png").write_bytes(plots[title])
        print(f"  {title}: {len(plots[title])} bytes of PNG")

    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentgw-demo-"))
        gateway = f"http://127.0.0.1:{free_port()}"
        env = {key: value for key, value in os.environ.items() if key != "VIRTUAL_ENV"}
        env |= {"AGENTGW_HOME": home, "AGENTGW_URL": gateway}
        model = env.setdefault("OLLAMA_BASE_URL", "http://localhost:11434")
        if not answers(f"{model}/v1/models"):
            print(f"No Ollama at {model}: starting the stand-in model.")
            model = env["OLLAMA_BASE_URL"] = f"http://127.0.0.1:{(port := free_port())}"
            stand_in = [sys.executable, str(HERE / "stand_in_llm.py"), str(port)]
            start(stack, stand_in, env, f"{model}/v1/models")
        acp = f"http://127.0.0.1:{(port := free_port())}"
        start(stack, [*EXAMPLE_PYTHON, str(HERE / "acp_agent.py"), str(port)], env, f"{acp}/ping")
        start(stack, [*AGENTGW, "serve", "--port", gateway.rpartition(":")[2]], env, f"{gateway}/readyz")

        def agentgw(*arguments: str) -> str:
            print("$ agentgw", *(argument.replace(str(HERE), HERE.name) for argument in arguments))
            return subprocess.run(
                [*AGENTGW, *arguments], env=env, check=True, text=True, stdout=subprocess.PIPE
            ).stdout

        settings = [f"{key}={env[key]}" for key in ("OLLAMA_BASE_URL", "ANALYST_MODEL") if key in env]
        options = [word for setting in settings for word in ("--env", setting)]
        command = [*EXAMPLE_PYTHON, str(HERE / "mcp_server.py")]
        print(agentgw("agents", "add", "analyst", *options, "--", *command))
        print(agentgw("agents", "add", "analyst-acp", acp, "--protocol", "acp"))
        print(f"\n{question}")
        tools = {"analyst": ("analyst__analyze_stock", "query"), "analyst-acp": ("analyst-acp", "message")}
        for agent, (tool, argument) in tools.items():
            keep(f"MCP host to {agent}", asyncio.run(ask_mcp(gateway, tool, {argument: question})))
            keep(f"A2A client to {agent}", ask_a2a(gateway, agent, question))
            keep(f"ACP client to {agent}", ask_acp(gateway, agent, question))
            keep(f"agentgw call {agent}", json.loads(agentgw("call", agent, question, "--json")))

    different = len(set(plots.values()))
    print(f"\n{len(plots)} plots in {PLOTS}:")
    print("all are identical." if different == 1 else f"{different} differ: the model wrote anew.")


if __name__ == "__main__":
    main()
