"""Which gateway the command line talks to, and the control plane there or in this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator
from urllib.parse import urlsplit

import msgspec

from ..gateway.control import Control
from ..gateway.errors import UpstreamError
from ..gateway.http.doors import is_loopback as _is_loopback
from ..gateway.transport import HttpTransport, Transport
from . import owner
from .terminal import YELLOW, Stop, WrongUse, note

LOOK_AGAIN = 0.3  # seconds


class Target(msgspec.Struct, frozen=True):
    """A running gateway: its base URL without a final slash, and the key for it (None: none)."""

    url: str
    token: str | None = None


async def find(transport: Transport) -> Target | None:
    """The running gateway; None when there is none on this machine.

    ``AGENTGW_URL`` wins over the owner file. A remote one that does not answer raises Stop.
    """
    here = owner.read(owner.home())
    configured = os.environ.get("AGENTGW_URL", "").strip().rstrip("/")
    if configured:
        target = _configured(configured, here)
        if await _answers(transport, target):
            return target
        if is_loopback(configured):
            return None
        raise Stop(f"the gateway at {configured} does not answer: check AGENTGW_URL, or unset it")
    if here is None or not owner.alive(here):
        return None
    target = Target(here.url.rstrip("/"), here.token)
    return target if await _answers(transport, target) else None


def _configured(url: str, here: owner.Owner | None) -> Target:
    try:
        parts = urlsplit(url)
        port, named = parts.port, parts.scheme in ("http", "https") and parts.hostname
    except ValueError:
        port, named = None, None
    if not named:
        raise WrongUse("AGENTGW_URL must be a URL such as http://127.0.0.1:8080")
    token = os.environ.get("AGENTGW_TOKEN") or None
    if token is None and here is not None and is_loopback(url) and port == urlsplit(here.url).port:
        token = here.token  # the owner's own gateway, named another way
    return Target(url, token)


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine's loopback; not of what is no URL."""
    try:
        return _is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


async def _answers(transport: Transport, target: Target) -> bool:
    headers = [("authorization", f"Bearer {target.token}")] if target.token else []
    try:
        reply = await transport.request("GET", f"{target.url}/healthz", headers=headers, timeout=5.0)
    except UpstreamError:
        return False
    return reply.status == 200


@contextlib.asynccontextmanager
async def transport() -> AsyncGenerator[Transport]:
    """An HTTP client for the time of one command."""
    client = HttpTransport()
    try:
        yield client
    finally:
        await client.aclose()


@contextlib.asynccontextmanager
async def control(*, reading: bool = False) -> AsyncGenerator[Control]:
    """The control plane: of the running gateway, else in this process under the store's lock; for a command
    that is only ``reading``, without it."""
    from .client import RemoteControl
    from .local import local_control

    async with transport() as http, contextlib.AsyncExitStack() as stack:
        target = await find(http)
        if target is not None:
            yield RemoteControl(http, target)
        elif reading:
            _silent()
            yield await stack.enter_async_context(local_control(reading=True))
        else:
            yield await _local(http, stack)


def _silent() -> None:
    """Say so where a gateway has the data directory and does not answer: what it knows may be newer."""
    from ..registry.lock import taken

    here = owner.read(owner.home())
    if here is not None and owner.alive(here) and taken(owner.home()):
        who = f"the gateway (process {here.pid})"
        note(f"warning: {who} does not answer; this is what it has kept", style=YELLOW)


async def _local(http: Transport, stack: contextlib.AsyncExitStack) -> Control:
    """The control plane in this process. While another has the lock, it may be a gateway that is just
    starting: then its own, as soon as it answers."""
    from .client import RemoteControl
    from .local import local_control

    entering = asyncio.ensure_future(stack.enter_async_context(local_control()))
    while not (await asyncio.wait((entering,), timeout=LOOK_AGAIN))[0]:
        target = await find(http)
        if target is not None:
            entering.cancel()
            await asyncio.wait((entering,))
            return RemoteControl(http, target)
    return await entering
