"""What of another configuration holds while the gateway runs."""

from __future__ import annotations

from agentgw.gateway.config import AgentEntry, Auth, Config, Limits, Server, Tracing
from agentgw.gateway.config_file import setting_paths
from agentgw.gateway.reloading import LIVE, RESTART, merged


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


def test_each_setting_is_either() -> None:
    paths = {path for path in setting_paths() if not path.startswith("agents")}
    assert paths == LIVE | RESTART
    assert not LIVE & RESTART


def test_a_public_url_that_decides_who_may_come_in_needs_a_restart() -> None:
    here, there = Config(), Config(server=Server(public_url="https://a.example"))
    other = Config(server=Server(public_url="https://b.example"))
    assert merged(there, other)[1].changed == ["server.public_url"]
    for now, new in ((here, there), (there, here)):
        config, said = merged(now, new)
        assert (config, said.restart) == (now, ["server.public_url"])
