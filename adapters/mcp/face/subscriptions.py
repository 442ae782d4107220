"""``subscriptions/listen``: one open stream of changes (2026-07-28, basic/patterns/subscriptions)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

from .. import wire
from ..wire import RpcError
from . import tasks
from .exchange import Exchange
from .outbox import Outbox

ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
# The filter's member for each kind of list.
_KINDS = {"tools": "toolsListChanged", "prompts": "promptsListChanged", "resources": "resourcesListChanged"}
_RESOURCES = "resourceSubscriptions"
_TASKS = "taskIds"


class Subscription:
    """One client's stream. Raises RpcError for a request without a filter."""

    def __init__(self, exchange: Exchange) -> None:
        wanted = exchange.arguments().get("notifications")
        if not isinstance(wanted, dict):
            raise RpcError(wire.INVALID_PARAMS, "notifications is required: an object")
        self._wanted = cast("dict[str, Any]", wanted)
        uris: Any = self._wanted.get(_RESOURCES)
        self.resources = [u for u in cast("list[Any]", uris) if isinstance(u, str)] if uris else []
        ids: Any = self._wanted.get(_TASKS)
        self.task_ids = [i for i in cast("list[Any]", ids) if isinstance(i, str)] if ids else []
        self._exchange = exchange
        self._outbox = Outbox()
        self._methods: set[str] = set()

    async def run(self, capabilities: Mapping[str, Any], closing: asyncio.Event) -> dict[str, Any]:
        """Acknowledge what ``capabilities`` allow, then send what is told, until ``closing``. The result
        says that the stream ended well."""
        kinds = [k for k, member in _KINDS.items() if self._wanted.get(member) is True and k in capabilities]
        honored: dict[str, Any] = {_KINDS[kind]: True for kind in kinds}
        self._methods = {f"notifications/{kind}/list_changed" for kind in kinds}
        if self.resources and _subscribes(capabilities):
            honored[_RESOURCES] = self.resources
            self._methods.add(wire.RESOURCE_UPDATED)
        if self.task_ids:
            honored[_TASKS] = self.task_ids
        await self._send(ACKNOWLEDGED, {"notifications": honored})
        end = asyncio.create_task(closing.wait())
        end.add_done_callback(lambda _: self._outbox.end())
        try:
            while (message := await self._outbox.next()) is not None:
                await self._exchange.reply.send(message)
        finally:
            end.cancel()
        return {"resultType": "complete", "_meta": self._meta()}

    async def _send(self, method: str, params: dict[str, Any]) -> None:
        message = wire.encode_notification(method, {"_meta": self._meta(), **params})
        await self._exchange.reply.send(message)

    def told(self, method: str, params: dict[str, Any]) -> None:
        """Send a notification, if the client asked for its kind."""
        if method in self._methods:
            self._outbox.put(wire.encode_notification(method, {**params, "_meta": self._meta()}))

    def changed(self, kind: str) -> None:
        """Send that the list of ``kind`` changed, if the client asked for that."""
        self.told(f"notifications/{kind}/list_changed", {})

    def task(self, fields: dict[str, Any]) -> None:
        """Send how a task goes (the extension ``io.modelcontextprotocol/tasks``)."""
        params = {**fields, "_meta": self._meta()}
        self._outbox.put(wire.encode_notification(tasks.STATUS["modern"], params))

    def _meta(self) -> dict[str, Any]:
        return {wire.META_SUBSCRIPTION: self._exchange.id}


def lists(capabilities: Mapping[str, Any]) -> dict[str, Any]:
    """The filter for all lists whose changes a server of these capabilities tells."""
    offered = {kind: capabilities.get(kind) for kind in _KINDS}
    return {
        _KINDS[kind]: True
        for kind, said in offered.items()
        if isinstance(said, Mapping) and cast("Mapping[str, Any]", said).get("listChanged") is True
    }


def _subscribes(capabilities: Mapping[str, Any]) -> bool:
    resources = capabilities.get("resources")
    return isinstance(resources, Mapping) and cast("Mapping[str, Any]", resources).get("subscribe") is True
