# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["acp-sdk==1.0.3", "uvicorn<0.36", "fastapi<0.130"]
# ///
"""A foreign ACP client on the official SDK, driven over stdin and stdout by JSON lines.

uv run --script acp_client.py

A command is {"id", "op", "url", …}; every answer carries its id:
{"id", "at", "event"} for each event as it arrives, `at` being the monotonic clock in seconds, then
{"id", "done": result} or {"id", "error": {"code", "message"}}. Commands run side by side.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httpx
from acp_sdk.client import Client
from acp_sdk.models import ACPError, Message, MessageAwaitResume, Session

TRUST = httpx.create_ssl_context()  # read once, not for each client
# The SDK keeps in the client which server already knows its session.
sessions: dict[tuple[str, str], Client] = {}
running: dict[int, Any] = {}  # commands under way; "drop" ends the one that it names as its "target"


def put(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


def client_for(command: dict[str, Any]) -> Client:
    url, session = command["url"], command.get("session")
    headers = {"traceparent": command["traceparent"]} if command.get("traceparent") else {}
    if not session:
        return Client(base_url=url, headers=headers, verify=TRUST)
    key = (url, session)
    if key not in sessions:
        session = Session(id=session)
        sessions[key] = Client(base_url=url, headers=headers, session=session, timeout=30, verify=TRUST)
    return sessions[key]


async def stream(id: int, events: Any) -> None:
    async for event in events:
        put({"id": id, "at": time.monotonic(), "event": event.model_dump(mode="json")})


async def perform(command: dict[str, Any]) -> Any:
    client = client_for(command)
    message = Message(role="user", parts=command.get("parts", []))
    match command["op"]:
        case "agents":
            return [manifest.model_dump(mode="json") async for manifest in client.agents()]
        case "agent":
            return (await client.agent(name=command["agent"])).model_dump(mode="json")
        case "sync":
            return (await client.run_sync(message, agent=command["agent"])).model_dump(mode="json")
        case "stream":
            await stream(command["id"], client.run_stream(message, agent=command["agent"]))
        case "resume":
            resume = MessageAwaitResume(message=message)
            await stream(command["id"], client.run_resume_stream(resume, run_id=command["run"]))
        case "status":
            return (await client.run_status(run_id=command["run"])).model_dump(mode="json")
        case "async":
            return (await client.run_async(message, agent=command["agent"])).model_dump(mode="json")
        case "events":
            await stream(command["id"], client.run_events(run_id=command["run"]))
        case "cancel":
            return (await client.run_cancel(run_id=command["run"])).model_dump(mode="json")
        case "drop":
            running[command["target"]].cancel()
        case other:
            raise ValueError(f"unknown op {other}")
    return None


async def serve(command: dict[str, Any]) -> None:
    running[command["id"]] = asyncio.current_task()
    try:
        put({"id": command["id"], "done": await perform(command)})
    except ACPError as error:
        put({"id": command["id"], "error": error.error.model_dump(mode="json")})
    except Exception as error:
        put({"id": command["id"], "error": {"code": type(error).__name__, "message": str(error)}})
    finally:
        del running[command["id"]]


async def main() -> None:
    reader = asyncio.StreamReader(limit=2**24)
    protocol = asyncio.StreamReaderProtocol(reader)
    await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, sys.stdin)
    put({"ready": True})
    async with asyncio.TaskGroup() as commands:
        async for line in reader:
            commands.create_task(serve(json.loads(line)))


if __name__ == "__main__":
    asyncio.run(main())
