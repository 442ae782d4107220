"""An A2A agent for the A2A TCK, on the official SDK: the beginning of a message's id says what it does.

    python a2a_agent.py --port 9101 [--profile full|ext|minimal]

``full``: streaming, push notifications, an extended card; ``ext``: besides, a required extension;
``minimal``: none of it. JSON-RPC at /, REST at /rest. Where the SDK differs from what the TCK expects,
``Corrections`` says so. Needs a2a-sdk[http-server] and uvicorn.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from email.utils import formatdate

os.environ.setdefault("OTEL_INSTRUMENTATION_A2A_SDK_ENABLED", "false")

import httpx
import uvicorn
from a2a.server.agent_execution import AgentExecutor, RequestContext, SimpleRequestContextBuilder
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import (
    BasePushNotificationSender,
    InMemoryPushNotificationConfigStore,
    InMemoryTaskStore,
    TaskUpdater,
)
from a2a.types import (
    AgentCapabilities,
    AgentCard,
    AgentExtension,
    AgentInterface,
    AgentProvider,
    AgentSkill,
    Part,
    Task,
    TaskState,
    TaskStatus,
)
from a2a.utils.errors import A2AError, ExtensionSupportRequiredError
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Value
from starlette.applications import Starlette
from starlette.responses import JSONResponse

REQUIRED = "urn:a2a:tck:required-extension"
SLOW = 4.0  # seconds, long enough to subscribe to a task that runs
MODES = ["text/plain", "application/json", "text"]
FILE = Part(raw=b"tck", filename="output.txt", media_type="text/plain")
LINK = Part(url="https://example.com/output.txt", filename="output.txt", media_type="text/plain")
DATA = Part(data=json_format.Parse('{"key": "value", "count": 42}', Value()))
# The beginning of a message's id → the artifact that the answer holds, and whether it says it works first.
ARTIFACTS = {
    "tck-artifact-file-url": (LINK, False),
    "tck-artifact-file": (FILE, False),
    "tck-artifact-text": (Part(text="Generated text content"), False),
    "tck-artifact-data": (DATA, False),
    "tck-stream-artifact-file": (FILE, True),
    "tck-stream-artifact-text": (Part(text="Streamed text content"), True),
    "tck-stream-001": (Part(text="Stream hello from TCK"), True),
    "tck-stream-003": (Part(text="Stream task lifecycle"), True),
    "tck-stream-ordering-001": (Part(text="Ordered output"), True),
}


class Executor(AgentExecutor):
    def __init__(self, *, extension: bool) -> None:
        self.extension = extension

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        if self.extension and REQUIRED not in context.requested_extensions:
            raise ExtensionSupportRequiredError(f"{REQUIRED} is required")
        updater = TaskUpdater(event_queue, context.task_id, context.context_id)
        wanted = context.message.message_id
        if wanted.startswith("tck-message-response"):  # no task may come before it
            await event_queue.enqueue_event(updater.new_agent_message([Part(text="Direct message response")]))
            return
        if wanted.startswith("tck-reject-task"):
            raise A2AError("rejected")
        if context.current_task is None:
            status = TaskStatus(state=TaskState.TASK_STATE_SUBMITTED)
            begun = Task(
                id=context.task_id, context_id=context.context_id, status=status, history=[context.message]
            )
            await event_queue.enqueue_event(begun)
        await self.act(wanted, updater, context)

    async def act(self, wanted: str, updater: TaskUpdater, context: RequestContext) -> None:
        for beginning, (part, works) in ARTIFACTS.items():
            if wanted.startswith(beginning):
                if works:
                    await updater.start_work()
                await updater.add_artifact([part])
                await updater.complete()
                return
        if wanted.startswith("tck-input-required"):
            await updater.requires_input(updater.new_agent_message([Part(text="Need more input")]))
        elif wanted.startswith("tck-auth-required"):
            await updater.requires_auth(updater.new_agent_message([Part(text="Need auth")]))
        elif wanted.startswith("tck-stream-002"):
            await updater.complete()
        elif wanted.startswith("tck-stream-artifact-chunked"):
            await updater.start_work()
            for n, text in enumerate(("chunk-1 ", "chunk-2")):
                await updater.add_artifact(
                    [Part(text=text)], artifact_id="chunked", append=n > 0, last_chunk=n > 0
                )
            await updater.complete()
        elif wanted.startswith("test-resubscribe-message-id"):
            await updater.start_work()
            await asyncio.sleep(SLOW)
            await updater.complete()
        else:
            words = "Hello from TCK" if wanted.startswith("tck-complete-task") else context.get_user_input()
            await updater.complete(updater.new_agent_message([Part(text=words)]))

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()


class ContextOfTask(SimpleRequestContextBuilder):
    """Takes the context from the stored task where a follow-up names only the task."""

    def __init__(self, store: InMemoryTaskStore) -> None:
        super().__init__(should_populate_referred_tasks=True, task_store=store)
        self.store = store

    async def build(self, context, params=None, task_id=None, context_id=None, task=None):
        if task_id and not context_id and (known := await self.store.get(task_id, context)):
            context_id = known.context_id
        return await super().build(context, params, task_id, context_id, task)


class Corrections:
    """ASGI: what the TCK expects and the SDK does otherwise. JSON-RPC in another content type is -32005, REST
    answers are ``application/json``, the card has a time of its last change."""

    def __init__(self, app) -> None:
        self.app = app
        self.since = formatdate(usegmt=True).encode()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        sent = dict(scope["headers"]).get(b"content-type", b"")
        if scope["path"] == "/" and scope["method"] == "POST" and b"json" not in sent:
            info = {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "CONTENT_TYPE_NOT_SUPPORTED",
                "domain": "a2a-protocol.org",
            }
            error = {"code": -32005, "message": "Incompatible content types", "data": [info]}
            answer = JSONResponse({"jsonrpc": "2.0", "id": None, "error": error})
            await answer(scope, receive, send)
            return

        async def corrected(message) -> None:
            if message["type"] == "http.response.start":
                headers = [
                    (name, value.replace(b"application/a2a+json", b"application/json"))
                    for name, value in message["headers"]
                ]
                if scope["path"].endswith("/agent-card.json"):
                    headers.append((b"last-modified", self.since))
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, corrected)


def card(port: int, profile: str) -> AgentCard:
    base, full = f"http://localhost:{port}", profile != "minimal"
    capabilities = AgentCapabilities(streaming=full, push_notifications=full, extended_agent_card=full)
    if profile == "ext":
        extension = AgentExtension(uri=REQUIRED, description="required by the TCK", required=True)
        capabilities.extensions.append(extension)
    return AgentCard(
        name="TCK agent",
        description="An agent for the A2A TCK",
        version="1.0.0",
        provider=AgentProvider(organization="agentgw", url="https://example.com"),
        supported_interfaces=[
            AgentInterface(url=base, protocol_binding="JSONRPC", protocol_version="1.0"),
            AgentInterface(url=f"{base}/rest", protocol_binding="HTTP+JSON", protocol_version="1.0"),
        ],
        capabilities=capabilities,
        default_input_modes=MODES,
        default_output_modes=MODES,
        skills=[AgentSkill(id="tck", name="TCK", description="Answers the TCK", tags=["tck"])],
    )


def app(port: int, profile: str) -> Corrections:
    described = card(port, profile)
    extended = AgentCard()
    extended.CopyFrom(described)
    extended.skills.append(
        AgentSkill(id="private", name="Private", description="in the extended card only", tags=["private"])
    )
    configs, tasks = InMemoryPushNotificationConfigStore(), InMemoryTaskStore()
    handler = DefaultRequestHandler(
        agent_executor=Executor(extension=profile == "ext"),
        task_store=tasks,
        request_context_builder=ContextOfTask(tasks),
        agent_card=described,
        push_config_store=configs,
        push_sender=BasePushNotificationSender(httpx.AsyncClient(timeout=5), configs),
        extended_agent_card=None if profile == "minimal" else extended,
        validate_input_modes=False,
    )
    routes = [
        *create_agent_card_routes(described, cache_control="public, max-age=60"),
        *create_jsonrpc_routes(handler, "/", enable_v0_3_compat=True),
        *create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=True),
    ]
    return Corrections(Starlette(routes=routes))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, default=9101)
    options.add_argument("--profile", choices=["full", "ext", "minimal"], default="full")
    chosen = options.parse_args()
    uvicorn.run(app(chosen.port, chosen.profile), port=chosen.port, log_level="warning")


if __name__ == "__main__":
    main()
