"""The running gateway's admin API as ``Control``, and its call API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from ..gateway import errors, sse
from ..gateway.agentlog import Lines
from ..gateway.control import (
    AddAgent,
    Added,
    AddKey,
    AgentInfo,
    KeyInfo,
    LoginAsked,
    LoginBegun,
    NewKey,
    Rotated,
)
from ..gateway.transport import Stream, Transport
from .find import Target
from .terminal import Stop

T = TypeVar("T")


class _ErrorBody(msgspec.Struct):
    code: str = "internal"
    message: str = ""
    data: Any = None


class _ErrorAnswer(msgspec.Struct):
    error: _ErrorBody


def _all(base: type[errors.GatewayError]) -> dict[str, type[errors.GatewayError]]:
    found = {base.code: base}
    for child in base.__subclasses__():
        found.update(_all(child))
    return found


_KINDS = {code: kind for code, kind in _all(errors.GatewayError).items() if code != "internal"}


def gateway_error(status: int, body: bytes, url: str) -> Exception:
    """The error in a gateway's answer, as the class that its code names."""
    try:
        answer = msgspec.json.decode(body, type=_ErrorAnswer).error
    except (msgspec.DecodeError, RecursionError):
        return Stop(f"{url} does not answer like an agentgw gateway (HTTP {status})")
    if status in (401, 403) and not answer.message:
        return Stop(f"the gateway at {url} refuses this key: check AGENTGW_TOKEN")
    kind = _KINDS.get(answer.code, errors.GatewayError)
    error = kind.__new__(kind)  # some kinds build their message from a name; here it is there already
    errors.GatewayError.__init__(error, answer.message or f"HTTP {status}", data=answer.data)
    return error


class Gateway:
    """HTTP to one gateway. Raises GatewayError for what it refuses, Stop where it is none."""

    def __init__(self, transport: Transport, target: Target) -> None:
        self._transport = transport
        self._target = target

    def _headers(self, body: bytes | None) -> list[tuple[str, str]]:
        headers = [("accept", "application/json, text/event-stream")]
        if self._target.token:
            headers.append(("authorization", f"Bearer {self._target.token}"))
        if body is not None:
            headers.append(("content-type", "application/json"))
        return headers

    async def request(self, method: str, path: str, value: Any = None, *, timeout: float = 120.0) -> bytes:
        """A request under ``/api``; the answer's body."""
        body = None if value is None else msgspec.json.encode(value)
        url = f"{self._target.url}/api{path}"
        try:
            reply = await self._transport.request(
                method, url, headers=self._headers(body), body=body, timeout=timeout
            )
        except errors.UpstreamError as e:
            raise self._gone(e) from e
        if reply.status >= 300:
            raise gateway_error(reply.status, reply.body, self._target.url)
        return reply.body

    async def events(
        self, path: str, value: Any, headers: Sequence[tuple[str, str]] = ()
    ) -> AsyncIterator[sse.ServerEvent]:
        """POST under ``/api``; the events of the answer's stream as they come."""
        body = msgspec.json.encode(value)
        url = f"{self._target.url}/api{path}"
        try:
            sent = [*self._headers(body), *headers]
            async with self._transport.stream("POST", url, headers=sent, body=body) as reply:
                if reply.status < 300:
                    async for event in _decoded(reply):
                        yield event
                    return
                refused = gateway_error(reply.status, await reply.read(), self._target.url)
        except errors.UpstreamError as e:
            raise self._gone(e) from e
        raise refused

    def _gone(self, error: errors.UpstreamError) -> Stop:
        if isinstance(error, errors.UpstreamTimeout):
            return Stop(f"the gateway at {self._target.url} did not answer in time")
        return Stop(f"the connection to the gateway at {self._target.url} broke")


async def _decoded(reply: Stream) -> AsyncIterator[sse.ServerEvent]:
    decoder = sse.Decoder()
    async for chunk in reply.chunks():
        for event in decoder.feed(chunk):
            yield event


class RemoteControl:
    """``Control`` over a running gateway's admin API."""

    def __init__(self, transport: Transport, target: Target) -> None:
        self._gateway = Gateway(transport, target)

    async def _get(self, method: str, path: str, kind: type[T], value: Any = None) -> T:
        body = await self._gateway.request(method, path, value)
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.DecodeError as e:
            raise Stop("the gateway's answer is not understood: is it of the same version?") from e

    async def list_agents(self) -> Sequence[AgentInfo]:
        return await self._get("GET", "/agents", list[AgentInfo])

    async def show_agent(self, name: str) -> AgentInfo:
        return await self._get("GET", f"/agents/{_quoted(name)}", AgentInfo)

    async def add_agent(self, spec: AddAgent) -> Added:
        return await self._get("POST", "/agents", Added, spec)

    async def check_agent(self, name: str) -> AgentInfo:
        return await self._get("POST", f"/agents/{_quoted(name)}/check", AgentInfo)

    async def set_enabled(self, name: str, enabled: bool) -> AgentInfo:
        action = "enable" if enabled else "disable"
        return await self._get("POST", f"/agents/{_quoted(name)}/{action}", AgentInfo)

    async def remove_agent(self, name: str) -> None:
        await self._gateway.request("DELETE", f"/agents/{_quoted(name)}")

    async def begin_login(self, name: str, asked: LoginAsked) -> LoginBegun:
        return await self._get("POST", f"/agents/{_quoted(name)}/login", LoginBegun, asked)

    async def finish_login(self, name: str, pending: str, answer: Mapping[str, str]) -> AgentInfo:
        body = {"pending": pending, "answer": answer}
        return await self._get("POST", f"/agents/{_quoted(name)}/login/finish", AgentInfo, body)

    async def logout(self, name: str) -> AgentInfo:
        return await self._get("POST", f"/agents/{_quoted(name)}/logout", AgentInfo)

    async def rotate_seal(self, keep: float) -> Rotated:
        return await self._get("POST", "/seal/rotate", Rotated, {"keep": keep})

    async def list_keys(self) -> Sequence[KeyInfo]:
        return await self._get("GET", "/keys", list[KeyInfo])

    async def create_key(self, spec: AddKey) -> NewKey:
        return await self._get("POST", "/keys", NewKey, spec)

    async def revoke_key(self, name: str) -> KeyInfo:
        return await self._get("POST", f"/keys/{_quoted(name)}/revoke", KeyInfo)

    async def remove_key(self, name: str) -> None:
        await self._gateway.request("DELETE", f"/keys/{_quoted(name)}")

    async def agent_logs(self, name: str, lines: int = 200, after: str | None = None) -> Lines:
        query = f"lines={lines}" if after is None else f"after={_quoted(after)}"
        return await self._get("GET", f"/agents/{_quoted(name)}/logs?{query}", Lines)

    async def traces(self, limit: int = 50) -> Sequence[dict[str, Any]]:
        return await self._get("GET", f"/traces?limit={limit}", list[dict[str, Any]])

    async def trace(self, trace_id: str) -> dict[str, Any]:
        return await self._get("GET", f"/traces/{_quoted(trace_id)}", dict[str, Any])


def _quoted(name: str) -> str:
    return quote(name, safe="")
