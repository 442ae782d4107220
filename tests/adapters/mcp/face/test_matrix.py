"""Nothing lost between any host and any server: each feature, in each era and across eras, at both doors.

The default run looks at every feature once, where the eras differ; the slow sweep at every combination.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import mcp.types as t
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError

from agentgw.adapters.mcp.face import names
from agentgw.gateway.config import Config
from agentgw.gateway.model import Data, Invocation, Message

from . import matrix_server
from .matrix_server import ASKING, DEFS, TEXT, WATCHED
from .support import Gateway, client, served, serving

HTTP = ["http-both", "http-handshake", "http-modern"]
STDIO = ["stdio-both", "stdio-handshake", "stdio-modern"]


# --- the two ends --------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def before(kind: str, config: Config | None = None) -> AsyncGenerator[Gateway]:
    """A gateway in front of the server, registered as ``m``."""
    matrix_server.watching.clear()
    matrix_server.changed_roots.clear()
    matrix_server.visited.clear()
    transport, _, era = kind.partition("-")
    async with contextlib.AsyncExitStack() as stack:
        if transport == "http":
            app = matrix_server.of_era(matrix_server.build().streamable_http_app(), era)
            url = await stack.enter_async_context(serving(app, http="h11"))
            gateway = await stack.enter_async_context(served(config))
            await gateway.add_server("m", f"{url}/mcp")
        else:
            gateway = await stack.enter_async_context(served(config))
            module = "agentgw.tests.adapters.mcp.face.matrix_server"
            await gateway.add_command("m", (sys.executable, "-m", module, era))
        yield gateway


class Host:
    """A host that can be asked everything: what it was asked and told."""

    def __init__(self, gateway: Gateway, kind: str, path: str, era: str) -> None:
        self.kind, self.path, self.era = kind, path, era
        self.asked: list[Any] = []
        self.logs: list[Any] = []
        self.progress: list[Any] = []
        self.told: list[str] = []
        self.news = asyncio.Event()
        self.client: Client = client(
            gateway.url + path,
            era,
            elicitation_callback=self._elicited,
            sampling_callback=self._sampled,
            list_roots_callback=self._rooted,
            logging_callback=self._logged,
            message_handler=self._message,
            log_level="warning",
        )

    def forget(self) -> None:
        """What it was asked and told so far."""
        for records in (self.asked, self.logs, self.progress, self.told):
            records.clear()

    async def _elicited(self, context: Any, params: Any) -> t.ElicitResult:
        self.asked.append(params)
        if isinstance(params, t.ElicitRequestURLParams):
            return t.ElicitResult(action="accept")
        (field,) = params.requested_schema["properties"]
        return t.ElicitResult(action="accept", content={field: f"my {field}"})

    async def _sampled(self, context: Any, params: Any) -> t.CreateMessageResult:
        self.asked.append(params)
        content = t.TextContent(type="text", text="the model says hi")
        return t.CreateMessageResult(role="assistant", model="m", content=content)

    async def _rooted(self, context: Any) -> t.ListRootsResult:
        return t.ListRootsResult(roots=[t.Root(uri="file:///work")])

    async def _logged(self, params: Any) -> None:
        self.logs.append(params)

    async def _message(self, message: Any) -> None:
        inner = getattr(message, "root", message)
        if isinstance(inner, t.ToolListChangedNotification | t.ResourceUpdatedNotification):
            self.told.append(inner.method)
            self.news.set()

    def own(self, name: str) -> str:
        """A tool's or prompt's name at this door."""
        return name if self.path == "/mcp/m" else names.qualified("m", name)

    async def call(self, tool: str, **arguments: Any) -> str:
        async def progress(done: float, total: float | None, message: str | None) -> None:
            self.progress.append((done, total, message))

        result = await self.client.call_tool(self.own(tool), arguments, progress_callback=progress)
        assert not result.is_error, result
        return result.content[0].text  # type: ignore[union-attr]


# --- the features --------------------------------------------------------------------------------


async def form(host: Host) -> None:
    assert await host.call("name") == 'name: accept {"name": "my name"}'
    assert host.asked[0].message == "Your name?"


async def url(host: Host) -> None:
    assert await host.call("link") == "link: accept null"
    assert str(host.asked[0].url) == "https://example.org/login"
    assert host.era == "modern" or host.asked[0].elicitation_id, "required there, unknown since"


async def a_gate(host: Host) -> None:
    """What a server asks for by an error in the handshake era, a modern host is asked as any question."""
    try:
        said = await host.call("gate")
    except MCPError as e:
        assert (host.era, e.code) == ("handshake", -32042)
        assert [link["url"] for link in e.error.data["elicitations"]] == ["https://example.org/login"]
        said = await host.call("gate")
    else:
        assert [str(link.url) for link in host.asked] == ["https://example.org/login"]
    assert said == "link: accept null"


async def sampling(host: Host) -> None:
    assert await host.call("sample") == "model: the model says hi"
    assert host.asked[0].messages[0].content.text == "hi"


async def roots(host: Host) -> None:
    assert await host.call("roots") == "roots: file:///work"


async def several_at_once(host: Host) -> None:
    assert await host.call("several") == 'name: accept {"name": "my name"}; model: the model says hi'


async def calls_in_flight(host: Host) -> None:
    fields = ["a", "b", "c", "d"]
    said = await asyncio.gather(*(host.call("named", field=field) for field in fields))
    assert said == [f'{field}: accept {{"{field}": "my {field}"}}' for field in fields]


async def prompts(host: Host) -> None:
    listed = {prompt.name for prompt in (await host.client.list_prompts()).prompts}
    assert listed == {host.own("plain"), host.own("asking")}
    got = await host.client.get_prompt(host.own("asking"))
    assert got.messages[0].content.text == 'accept {"name": "my name"}'  # type: ignore[union-attr]


async def resources(host: Host) -> None:
    assert len((await host.client.list_resources()).resources) == 3
    templates = (await host.client.list_resource_templates()).resource_templates
    assert [template.uri_template for template in templates] == ["matrix://page/{n}"]
    assert (await host.client.read_resource(TEXT)).contents[0].text == "text"  # type: ignore[union-attr]
    asked = await host.client.read_resource(ASKING)
    assert asked.contents[0].text == 'accept {"name": "my name"}'  # type: ignore[union-attr]


async def completion(host: Host) -> None:
    ref = t.PromptReference(type="ref/prompt", name=host.own("plain"))
    result = await host.client.complete(ref, {"name": "city", "value": "os"})
    assert result.completion.values == ["oslo", "osaka"]
    template = t.ResourceTemplateReference(type="ref/resource", uri="matrix://page/{n}")
    result = await host.client.complete(template, {"name": "n", "value": "r"})
    assert result.completion.values == ["rome"]


async def logging(host: Host) -> None:
    if host.era == "handshake":
        await host.client.set_logging_level("warning")
    assert await host.call("talk") == "talked"
    assert [(entry.level, entry.data) for entry in host.logs] == [("warning", "a warning")]


async def progress_around_a_question(host: Host) -> None:
    assert await host.call("work") == 'name: accept {"name": "my name"}'
    assert host.progress == [(1, 2, "before"), (2, 2, "after")]


async def schemas_and_pages(host: Host) -> None:
    found: list[t.Tool] = []
    cursor: str | None = None
    while True:
        page = await host.client.list_tools(cursor=cursor)
        found += page.tools
        if (cursor := page.next_cursor) is None:
            break
    assert [tool.name for tool in found] == [host.own(name) for name in matrix_server.HANDLERS]
    assert all(
        tool.input_schema == DEFS and tool.meta == {"example.org/kept": {"deep": [1]}} for tool in found
    )


async def the_hosts_own_capabilities(host: Host) -> None:
    can = json.loads(await host.call("can"))
    assert {"elicitation", "sampling", "roots"} <= can.keys()


async def changes(host: Host) -> None:
    """Of a list, and of a resource that is subscribed to."""
    if host.era == "handshake":
        await host.client.subscribe_resource(WATCHED)
        for tool in ("update", "change"):
            host.news.clear()
            await host.call(tool)
            if tool == "update" or host.path == "/mcp/m":  # at /mcp the list as a whole is what it was
                async with asyncio.timeout(60):
                    await host.news.wait()
        assert "notifications/resources/updated" in host.told
        return
    async with host.client.listen(resource_subscriptions=[WATCHED]) as events:
        await host.call("update")
        async with asyncio.timeout(60):
            async for event in events:
                assert str(event.uri) == WATCHED
                break


async def roots_that_change(host: Host) -> None:
    """Told to servers of the handshake era; the modern one has no such notification."""
    if host.era == "handshake":
        await host.call("told")
        await host.client.send_roots_list_changed()
        if "handshake" in host.kind:
            async with asyncio.timeout(60):
                while await host.call("told") == "0":
                    pass


Feature = Callable[[Host], Awaitable[None]]
FEATURES: list[Feature] = [
    form, url, a_gate, sampling, roots, several_at_once, calls_in_flight, prompts, resources, completion,
    logging, progress_around_a_question, schemas_and_pages, the_hosts_own_capabilities, changes,
    roots_that_change,
]  # fmt: skip


def across(*kinds: str) -> list[Any]:
    """Hosts, servers and doors: the slow mark on all but one way across the eras each."""
    found: list[Any] = []
    for kind in kinds:
        for era in ("handshake", "modern"):
            for path in ("/mcp/m", "/mcp"):
                typical = (kind, era) in (("http-handshake", "modern"), ("http-modern", "handshake"))
                marks = [] if typical and path == "/mcp/m" else [pytest.mark.slow]
                name = f"{era} host, {kind} server, {path}"
                found.append(pytest.param(kind, era, path, marks=marks, id=name))
    return found


@pytest.mark.parametrize(("kind", "era", "path"), across(*HTTP, *STDIO))
async def test_nothing_is_lost(kind: str, era: str, path: str) -> None:
    async with before(kind) as gateway:
        host = Host(gateway, kind, path, era)
        async with host.client:
            for feature in FEATURES:
                if feature is calls_in_flight and kind == "stdio-handshake" and era == "modern":
                    continue  # in a process that others share a question does not say whose it is
                host.forget()
                await feature(host)


@pytest.mark.parametrize("kind", ["http-handshake", "http-modern"])
@pytest.mark.parametrize(("reply", "state"), [({}, "completed"), ({"action": "decline"}, "failed")])
async def test_callers_of_other_protocols_are_asked_to_open_addresses(
    kind: str, reply: dict[str, Any], state: str
) -> None:
    def call(data: dict[str, Any], **more: Any) -> Invocation:
        message = Message(role="user", parts=(Data(data=data),))
        return Invocation(agent="m", message=message, client_protocol="a2a", **more)

    async with before(kind) as gateway:
        task = await (await gateway.hub.invoke(call({"tool": "gate"}))).settled()
        assert task.input_request is not None
        assert (task.input_request.kind, task.input_request.url) == ("url", "https://example.org/login")
        task = await (await gateway.hub.invoke(call(reply, task_id=task.id))).settled()
    if kind == "http-modern" and state == "failed":
        state = "completed"  # there the refusal is the server's to judge
    assert task.state == state
