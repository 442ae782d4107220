"""Finding an agent's card and the interface to call: control plane, seldom done, kept by the upstream."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from ....gateway import outbound
from ....gateway.errors import BadUpstream, CallerError, GatewayError, UpstreamError
from ....gateway.ports import Host
from ....gateway.readable import UNREADABLE
from ..card import Interface, agent_from, base_of, interfaces
from ..codec import Malformed
from ..grpc import optional
from ..problems import agent_http_error
from ..wire import CARD_PATH, OLD_CARD_PATH, V10, Json
from . import address

TIMEOUT = 10.0  # seconds for one card
Headers = list[tuple[str, str]]


@lru_cache(4096)
def candidates(url: str) -> tuple[str, ...]:
    """Where the card may be: at the URL itself if that names one, beneath it, at the origin's root."""
    base = base_of(url)
    parts = urlsplit(base)
    root = f"{parts.scheme}://{parts.netloc}"
    own = [url] if url.partition("?")[0].endswith(".json") else []
    found = [*own, base + CARD_PATH, base + OLD_CARD_PATH]
    if root != base:
        found += [root + CARD_PATH, root + OLD_CARD_PATH]
    return tuple(dict.fromkeys(found))


class Fetched(NamedTuple):
    """A card, and the SHA-256 of what it was read from."""

    card: Json
    digest: bytes


async def fetch_card(
    agent: str, url: str, headers: Headers, host: Host, known: Fetched | None = None
) -> Fetched | None:
    """The card of the agent at ``url``; None where none is found; ``known`` where it still reads so. A card
    at the origin's root counts only if it speaks of the registered URL. Raises GatewayError when the agent
    can't be reached or refuses."""
    base = base_of(url)
    for candidate in candidates(url):
        sent = [*headers, ("accept", "application/json"), ("a2a-version", V10)]
        answer = await host.transport.request("GET", candidate, headers=sent, timeout=TIMEOUT)
        if answer.status in (401, 403) or answer.status >= 500:
            raise agent_http_error(agent, answer.status, answer.body)
        if answer.status != 200:
            continue
        digest = sha256(answer.body).digest()
        if known is not None and known.digest == digest:
            found = known
        elif (card := _card(answer.body)) is not None:
            found = Fetched(card, digest)
        else:
            continue
        if candidate.startswith(base) or _speaks_of(found.card, base):
            return found
    return None


def _card(body: bytes) -> Json | None:
    """The card in ``body``; None for anything else (a page of a site that answers every path)."""
    try:
        value: Any = msgspec.json.decode(body)
        if not isinstance(value, dict):
            return None
        agent_from(value)  # pyright: ignore[reportUnknownArgumentType]
        return value if interfaces(value) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    except (*UNREADABLE, Malformed):
        return None


def _speaks_of(card: Json, base: str) -> bool:
    urls = (address.same_origin(i.url, base) for i in interfaces(card))
    return any(u is not None and u.rstrip("/").startswith(base) for u in urls)


async def choose(agent: str, card: Json, registered: str, allow: Sequence[str]) -> tuple[Interface, bool]:
    """The interface to call, and whether it lies on the registered origin (and may get the credentials).
    Raises UpstreamError when there is none that may be used."""
    elsewhere: list[Interface] = []
    for interface in _usable(interfaces(card), registered):
        find = address.beside if interface.binding == "GRPC" else address.same_origin
        here = find(interface.url, registered)
        if here is not None:
            return msgspec.structs.replace(interface, url=here), True
        elsewhere.append(interface)
    error: UpstreamError = BadUpstream(f"{agent}'s card names no interface that the gateway speaks")
    for interface in elsewhere:
        try:
            await elsewhere_at(agent, interface.url, allow)
        except UpstreamError as e:
            error = e
        else:
            return interface, False
    raise error


def _usable(found: Sequence[Interface], registered: str) -> list[Interface]:
    """The interfaces with URLs of http and https. gRPC counts where it is installed or there is nothing else
    (then its use says what to install)."""
    usable: list[Interface] = []
    for interface in found:
        if interface.binding == "GRPC":
            if usable and not optional.installed():
                continue
            try:
                interface = msgspec.structs.replace(interface, url=address.of_grpc(interface.url, registered))
            except ValueError:
                continue
        usable.append(interface)
    return usable


async def elsewhere_at(agent: str, url: str, allow: Sequence[str]) -> str:
    """The address to connect to for an interface off the registered origin, checked at this moment. Raises
    UpstreamError: that it may not be reached is the card's fault, not the client's."""
    try:
        return await outbound.checked(url, allow)
    except CallerError as e:
        raise BadUpstream(
            f"{agent}'s card points elsewhere, but {e.message}: allow it there, or register the agent at "
            "that address",
            detail=e.detail,
        ) from e


async def found_at(url: str, headers: Headers, host: Host) -> Json | None:
    """The card behind any URL, for probing: None where the URL does not speak A2A."""
    try:
        found = await fetch_card("the agent", url, headers, host)
    except GatewayError as e:
        if (e.native or {}).get("status") in (401, 403):
            raise
        return None
    return None if found is None else found.card
