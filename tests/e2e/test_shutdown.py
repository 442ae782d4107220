"""SIGTERM drains: the running call finishes, new ones are refused, the exit status is 0."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import httpx

from ..conftest import PATIENCE
from .conftest import register


def message(text: str) -> dict[str, Any]:
    content = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": text}]}
    return {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": {"message": content}}


def test_running_call_finishes(start_gateway: Any, peers: Any, until: Any) -> None:
    gateway = start_gateway()
    register(gateway, "a2a", url=peers.a2a, protocol="a2a")
    register(gateway, "stdio", command=peers.mcp_stdio)
    url, headers = f"{gateway.url}/a2a/a2a/", {"A2A-Version": "1.0"}

    def refused() -> bool:
        try:
            return httpx.post(url, json=message("echo hello"), headers=headers).status_code == 503
        except httpx.TransportError:
            return True

    with httpx.stream("POST", url, json=message("slow 2"), headers=headers, timeout=PATIENCE) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data:"))
        seen = [next(lines)]
        os.kill(gateway.process.popen.pid, signal.SIGTERM)
        until("new calls are refused", refused)
        seen += lines
    events = [json.loads(line.removeprefix("data:"))["result"] for line in seen]
    assert events[-1]["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED", events
    assert gateway.process.popen.wait(PATIENCE) == 0
    assert not (gateway.cli.home / "owner.json").exists()


def test_no_child_outlives_the_gateway(start_gateway: Any, peers: Any, until: Any) -> None:
    import psutil

    gateway = start_gateway()
    register(gateway, "stdio", command=peers.mcp_stdio)
    gateway.cli("call", "stdio", "--data", '{"tool": "echo", "arguments": {"text": "hello"}}')
    children = psutil.Process(gateway.process.popen.pid).children(recursive=True)
    assert children
    gateway.process.popen.terminate()
    assert gateway.process.popen.wait(PATIENCE) == 0
    until("the stdio server is gone", lambda: not any(child.is_running() for child in children))


def test_a_second_signal_does_not_wait(start_gateway: Any, peers: Any, until: Any) -> None:
    gateway = start_gateway(AGENTGW_LIMITS__SHUTDOWN_GRACE="1h")
    register(gateway, "a2a", url=peers.a2a, protocol="a2a")
    parts = [{"content_type": "text/plain", "content": "slow 60"}]
    run = {"agent_name": "a2a", "mode": "stream", "input": [{"role": "user", "parts": parts}]}

    def draining() -> bool:
        return httpx.get(f"{gateway.url}/readyz").status_code == 503

    with httpx.stream("POST", f"{gateway.url}/acp/runs", json=run, timeout=PATIENCE) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data:"))
        next(line for line in lines if "run.in-progress" in line)  # the agent has said what it calls the task
        os.kill(gateway.process.popen.pid, signal.SIGINT)
        until("it drains", draining)
        os.kill(gateway.process.popen.pid, signal.SIGINT)
        events = [json.loads(line.removeprefix("data:")) for line in lines]
    # The agent goes on with it, and the next process will: the stream ends, not the run.
    assert events[-1]["type"] == "error", events
    assert events[-1]["error"]["message"] == "the gateway is stopping; try again in a moment"
    assert gateway.process.popen.wait(PATIENCE) == 1  # a call was cut off
    assert not (gateway.cli.home / "owner.json").exists()
