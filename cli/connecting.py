"""The work behind ``agentgw connect``: find the address, print the configuration or merge it into a file."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from ..gateway.access import SPACE
from ..gateway.errors import GatewayError, UpstreamError
from ..gateway.names import complaint, is_valid
from ..registry.sqlite import SqliteStore
from . import owner
from .configuration import load
from .find import find, is_loopback, transport
from .hosts import HOSTS, PRINTED, Host, Place, document
from .terminal import YELLOW, Stop, WrongUse, note


async def connect(client: str, agent: str | None, write: bool) -> None:
    """Print, or write, what ``client`` needs."""
    if client not in HOSTS and client not in PRINTED:
        raise WrongUse(f"{client} is not known: one of {', '.join([*HOSTS, *PRINTED])}")
    if agent is not None and not is_valid(agent):
        raise WrongUse(complaint(agent))
    if write and client in PRINTED:
        raise WrongUse(f"{client} has no file to write: leave --write out and use what is printed")
    place = await _place(agent)
    if agent is not None:
        await _warn_of_unknown(agent)
    if client in PRINTED:
        print(PRINTED[client](place))
        return
    host = HOSTS[client]
    if write:
        path = host.path()
        merge(path, host, place)
        note(f"{host.title}: {place.entry} is in {path}")
    elif host.add is not None:
        print(host.add(place))
    else:
        note(f"{host.title}: put this into {host.path()} (--write does it)")
        print(_pretty(document(host, place)))


async def _warn_of_unknown(agent: str) -> None:
    """Say so when the running gateway has no such agent: the client would meet an error."""
    from .client import RemoteControl

    async with transport() as http:
        with contextlib.suppress(Stop, GatewayError):
            target = await find(http)
            if target is not None and all(
                known.name != agent for known in await RemoteControl(http, target).list_agents()
            ):
                note(f"warning: the gateway at {target.url} has no agent named {agent} yet", style=YELLOW)


async def _place(agent: str | None) -> Place:
    """Where clients point: the running gateway, else where it would be by the configuration."""
    configured = os.environ.get("AGENTGW_URL", "").strip().rstrip("/")
    url = configured or await _local_url()
    keyed = bool(os.environ.get("AGENTGW_TOKEN")) or not is_loopback(url) or await _wants_keys(url)
    return Place(url=url, agent=agent, keyed=keyed, environment=_environment(configured))


async def _wants_keys(url: str) -> bool:
    """Whether callers need a key there: asked of the gateway, where none runs of the data directory."""
    async with transport() as http:
        with contextlib.suppress(UpstreamError):
            return (await http.request("GET", f"{url}/acp/ping", headers=[], timeout=5.0)).status == 401
    return bool(SqliteStore.read_items(owner.home(), SPACE))


def _environment(url: str) -> dict[str, str]:
    """What is set here and would not be where a host starts commands. Never the key: files are no place
    for it."""
    found = {"AGENTGW_URL": url} if url else {}
    for name in ("AGENTGW_HOME", "AGENTGW_CONFIG"):
        if value := os.environ.get(name):
            found[name] = str(Path(value).expanduser().absolute())
    return found


async def _local_url() -> str:
    server = load().server
    if server.public_url:
        return server.public_url.rstrip("/")
    async with transport() as http:
        target = await find(http)
    if target is not None:
        return target.url
    host = "127.0.0.1" if server.host in ("0.0.0.0", "::") else server.host
    return f"http://[{host}]:{server.port}" if ":" in host else f"http://{host}:{server.port}"


def _pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def merge(path: Path, host: Host, place: Place) -> None:
    """Put the gateway's entry into a JSON file and keep everything else. Raises Stop for a file that is not
    plain JSON: writing it back would lose its comments."""
    wanted = document(host, place)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        text = b""
    except OSError as e:
        raise Stop(f"can't read {path}: {e.strerror}") from None
    content = _content(path, text, host, wanted)
    servers: Any = content.setdefault(host.key, {})
    if not isinstance(servers, dict):
        raise Stop(f'"{host.key}" in {path} is no JSON object: put this in by hand: {_compact(wanted)}')
    servers |= wanted.pop(host.key)
    for key, items in wanted.items():
        _join(content, key, items)
    _replace(path, _pretty(content).encode() + b"\n")


def _content(path: Path, text: bytes, host: Host, wanted: dict[str, Any]) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        content = msgspec.json.decode(text.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise Stop(
            f"{path} is not plain JSON (comments?) and is left as it is: "
            f"put this in by hand: {_compact(wanted)}"
        )
    return content  # pyright: ignore[reportUnknownVariableType]


def _compact(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _join(content: dict[str, Any], key: str, items: list[Any]) -> None:
    """Add list items that are not there yet, by their ``id``."""
    present = content.setdefault(key, [])
    if isinstance(present, list):
        ids = {item.get("id") for item in present if isinstance(item, dict)}  # pyright: ignore
        present.extend(item for item in items if item["id"] not in ids)  # pyright: ignore


def _replace(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; a link keeps pointing where it did, the mode stays."""
    path = path.resolve()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
            os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
    except OSError as e:
        raise Stop(f"can't write {path}: {e.strerror}") from None
