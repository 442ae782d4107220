"""What of another configuration holds while the gateway runs: each setting either at once, or it is named."""

from __future__ import annotations

import gc
import tomllib
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentgw.cli.reloading import Reloader
from agentgw.cli.wiring import Gateway
from agentgw.gateway.config import AgentEntry, Auth, Config, Limits, Server, Tracing
from agentgw.gateway.config_file import setting_paths
from agentgw.gateway.errors import ConfigError
from agentgw.gateway.http.server import Server as HttpServer
from agentgw.gateway.model import Record
from agentgw.gateway.reloading import LIVE, RESTART, merged
from agentgw.registry.sqlite import SqliteStore

FILE = Path(__file__).parent.parent.parent / "config.toml"
README = FILE.with_name("README.md")
SETTINGS = sorted(
    f"{section}.{key}"
    for section, keys in tomllib.loads(FILE.read_text()).items()
    if section != "agents"
    for key in keys
)


def test_what_can_change_has_changed_and_the_rest_is_named() -> None:
    now = Config(agents={"gone": AgentEntry(url="http://a"), "same": AgentEntry(url="http://b")})
    new = Config(
        server=Server(port=1, hosts=("x",)),
        limits=Limits(idle_timeout=1),
        auth=Auth(leeway=1),
        tracing=Tracing(sampling=0.5),
        agents={"same": AgentEntry(url="http://b"), "new": AgentEntry(url="http://c")},
    )
    config, said = merged(now, new)
    assert list(said.changed) == [
        "server.hosts", "limits.idle_timeout", "tracing.sampling", "agents.gone", "agents.new",
    ]  # fmt: skip
    assert list(said.restart) == ["server.port", "auth.leeway"]
    assert config.server == Server(hosts=("x",))
    assert config.limits == Limits(idle_timeout=1)
    assert config.agents == new.agents


def test_nothing_new_changes_nothing() -> None:
    config, said = merged(Config(), Config())
    assert config == Config()
    assert not (said.changed or said.restart)


# --- every key of config.toml ------------------------------------------------------------------


def at(config: Config, path: str) -> Any:
    section, key = path.split(".")
    return getattr(getattr(config, section), key)


def put(config: Config, path: str, value: Any) -> Config:
    section, key = path.split(".")
    changed = msgspec.structs.replace(getattr(config, section), **{key: value})
    return msgspec.structs.replace(config, **{section: changed})


def other(value: Any, number: int) -> Any:
    """Another value of the same kind, as no other setting has."""
    match value:
        case bool():
            return not value
        case int():
            return 7_000_000 + number
        case float():
            return 7_000_000.5 + number
        case str():
            return f"https://{number}.example"
        case tuple():
            return (f"https://{number}.example",)
        case _:
            return {f"scope-{number}": ("*",)}


def test_config_toml_has_every_setting() -> None:
    assert sorted(path for path in setting_paths() if not path.startswith("agents")) == SETTINGS


@pytest.mark.parametrize("path", SETTINGS)
def test_each_setting_changes_at_once_or_is_named(path: str) -> None:
    """Where a public_url is there before and after: whether there is one decides who may come in."""
    now = put(Config(), "server.public_url", "https://a.example")
    new = put(now, path, other(at(now, path), 1))
    config, said = merged(now, new)
    assert (path in LIVE) != (path in RESTART)
    if path in LIVE:
        assert (config, said.changed, said.restart) == (new, [path], [])
    else:
        assert (config, said.changed, said.restart) == (now, [], [path])


@pytest.mark.parametrize("path", SETTINGS)
def test_the_readme_says_which(path: str) -> None:
    """By its name, or with its whole section."""
    paragraph = README.read_text().partition("`agentgw reload`, SIGHUP")[2].partition("\n\n")[0]
    at_once, _, restart = paragraph.partition("What is listened on")
    section, key = path.split(".")
    said = restart if path in RESTART else at_once
    names = (f"`{path}`", f"`{key}`", f"`[{section}]`")
    assert any(name in said for name in names), path


def distinct(number: int) -> Config:
    """A configuration in which every setting that can change has a value of its own."""
    config = Config()
    for place, path in enumerate(sorted(LIVE)):
        value = at(config, path)
        if not isinstance(value, bool):
            config = put(config, path, other(value, number + place))
    config = put(config, "limits.nesting", 80 + number % 7)
    return put(config, "tracing.sampling", 0.5 + number / 1e7)


def held(root: object, beside: object) -> Iterator[tuple[object, object]]:
    """All values within reach of an object, each with what holds it, but for what is within reach of
    ``beside`` alone."""
    seen = {id(beside)}
    waiting = [root]
    while waiting:
        holder = waiting.pop()
        if id(holder) in seen or isinstance(holder, types.ModuleType | types.FrameType | type):
            continue
        seen.add(id(holder))
        if isinstance(holder, types.FunctionType):
            inside: list[Any] = [*(holder.__closure__ or ()), *(holder.__defaults__ or ())]
        else:
            inside = gc.get_referents(holder)
        for value in inside:
            yield value, holder
            if not isinstance(value, int | float | str | bytes):
                waiting.append(value)


async def test_nothing_holds_what_a_setting_was_before(tmp_path: Path) -> None:
    """Once another configuration is in place, the former values are nowhere in the gateway."""
    old, new = distinct(1000), distinct(2000)
    store = SqliteStore(tmp_path, spans=old.tracing.spans, tasks=old.limits.tasks)
    gateway = Gateway(old, store, bind="127.0.0.1", token="t")
    gateway.servers.append(HttpServer(gateway.app, old.limits.header))
    # Not started as a whole: what works in the background may hold a value for a moment.
    await store.open()
    for record in AGENTS:
        await store.put_record(record)
    await store.load_tasks(limit=1)
    await gateway.directory.start(refresh=False)
    former = {at(old, path): path for path in LIVE if not isinstance(at(old, path), bool)}
    del former[old.limits.nesting]  # too small to be nobody else's
    del old
    try:
        await gateway.reconfigure(new)
        stale = {
            f"{former[value]} in a {type(holder).__name__}"
            for value, holder in held(gateway, beside=former)
            if isinstance(value, int | float | str | tuple) and _hashable(value) and value in former
        }
        assert stale == set()
        assert any(value is new for value, _ in held(gateway, beside=former))
    finally:
        await gateway.aclose()


AGENTS = [
    Record(name="a", protocol="a2a", url="http://127.0.0.1:9/"),
    Record(name="b", protocol="acp", url="http://127.0.0.1:9/"),
    Record(name="c", protocol="mcp", url="http://127.0.0.1:9/"),
    Record(name="d", protocol="mcp", command=("no-such-program",)),
]


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


# --- what depends on other settings ---------------------------------------------------------------


def test_a_public_url_that_decides_who_may_come_in_needs_a_restart() -> None:
    here, there = Config(), Config(server=Server(public_url="https://a.example"))
    other = Config(server=Server(public_url="https://b.example"))
    assert merged(there, other)[1].changed == ["server.public_url"]
    for now, new in ((here, there), (there, here)):
        config, said = merged(now, new)
        assert (config, said.restart) == (now, ["server.public_url"])


@pytest.mark.parametrize(
    ("port", "size", "told"), [(8081, 2 << 20, True), (8081, 1 << 10, False), (0, 2 << 20, False)]
)
def test_a_larger_body_over_grpc_is_said_to_need_a_restart(port: int, size: int, told: bool) -> None:
    now = Config(server=Server(grpc_port=port), limits=Limits(body=1 << 20))
    said = merged(now, put(now, "limits.body", size))[1]
    assert list(said.changed) == ["limits.body"]
    assert any("gRPC" in warning for warning in said.warnings) is told


async def test_an_issuer_that_loses_its_audience_is_refused() -> None:
    """The issuer stays until a restart: without public_url nobody would know whom its tokens are for."""
    auth = Auth(issuer="https://login.example", scopes={"*": ("*",)})
    now = Config(auth=auth, server=Server(public_url="http://localhost"))
    new, fine = put(now, "server.public_url", ""), put(now, "server.public_url", "http://127.0.0.1")
    applied: list[Config] = []

    async def apply(config: Config) -> None:
        applied.append(config)

    with pytest.raises(ConfigError, match=r"nothing was changed: auth\.issuer wants auth\.audience"):
        await Reloader(now, lambda: (new, []), apply).reload()
    assert applied == []
    said = await Reloader(now, lambda: (fine, ["a warning"]), apply).reload()
    assert (said.changed, said.warnings) == (["server.public_url"], ["a warning"])
    assert applied == [fine]
