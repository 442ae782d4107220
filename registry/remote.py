"""The store of another process, over a link: every method of the port, as it is there. What calls leave is
made into rows by who uses the store, and written by the owner without being read.

One process owns the data directory, opens the store and serves it (``served``); the others use it
(``remote``).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, get_type_hints

import msgspec

from ..gateway.link import Handler, Link, Payload, Unpack, pack
from ..gateway.store import Batch, Store
from .rows import Rows, RowStore, rows_of

_OWN = ("open", "aclose")  # the owner's alone
_OTHERWISE = (*_OWN, "save")  # not as it is
_WRITE = "store.write"
_rows = Unpack(Rows)


class _Method:
    """One method of the port: how its arguments and its result are written."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        hints = get_type_hints(function)
        self.name = f"store.{name}"
        self.signature = inspect.signature(function)
        names = [p for p in self.signature.parameters if p != "self"]
        given = msgspec.defstruct(name, [(p, hints[p]) for p in names], array_like=True)
        result = hints["return"]
        self.names = names
        self.arguments = Unpack(given)
        self.result = Unpack(result)

    def written(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
        bound = self.signature.bind(None, *args, **kwargs)
        bound.apply_defaults()
        return pack([bound.arguments[name] for name in self.names])

    def read(self, payload: Payload) -> dict[str, Any]:
        given = self.arguments(payload)
        return {name: getattr(given, name) for name in self.names}


def _methods() -> dict[str, _Method]:
    port = inspect.getmembers(Store, inspect.iscoroutinefunction)
    return {
        name: _Method(name, function) for name, function in port if name[0] != "_" and name not in _OTHERWISE
    }


METHODS = _methods()


def _packed(batch: Batch) -> tuple[Sequence[int], Payload]:
    """The batch as it goes over a link; the bytes of each task."""
    rows = rows_of(batch)
    return rows.sizes, pack(rows)


def remote(link: Link) -> Store:
    """The store at the other end of ``link``. Opening and closing it do nothing."""

    async def nothing(_: Any) -> None: ...

    async def save(_: Any, batch: Batch) -> Sequence[int]:
        sizes, packed = await asyncio.to_thread(_packed, batch)
        await link.call(_WRITE, packed)
        return sizes

    def forwarding(method: _Method) -> Callable[..., Awaitable[Any]]:
        async def forward(_: Any, *args: Any, **kwargs: Any) -> Any:
            return method.result(await link.call(method.name, method.written(args, kwargs)))

        return forward

    members: dict[str, Any] = {name: forwarding(method) for name, method in METHODS.items()}
    members |= {"save": save} | dict.fromkeys(_OWN, nothing)
    return type("RemoteStore", (Store,), members)()


def served(store: RowStore) -> dict[str, Handler]:
    """What a link's handlers must be for its other end to use ``store``."""

    def serving(name: str, method: _Method) -> Handler:
        bound = getattr(store, name)

        async def serve(payload: Payload) -> Payload:
            return pack(await bound(**method.read(payload)))

        return serve

    async def write(payload: Payload) -> Payload:
        await store.write(lambda: _rows(payload))
        return pack(None)

    return {method.name: serving(name, method) for name, method in METHODS.items()} | {_WRITE: write}
