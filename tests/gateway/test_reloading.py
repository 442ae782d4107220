"""What of another configuration holds while the gateway runs."""

from __future__ import annotations

from agentgw.gateway.config import AgentEntry, Config, Limits, Server, Tracing
from agentgw.gateway.config_file import setting_paths
from agentgw.gateway.reloading import LIVE, merged


def test_what_can_change_has_changed_and_the_rest_is_named() -> None:
    now = Config(agents={"gone": AgentEntry(url="http://a"), "same": AgentEntry(url="http://b")})
    new = Config(
        server=Server(port=1, hosts=("x",)),
        limits=Limits(idle_timeout=1, tasks=1),
        tracing=Tracing(sampling=0.5),
        agents={"same": AgentEntry(url="http://b"), "new": AgentEntry(url="http://c")},
    )
    config, said = merged(now, new)
    assert list(said.changed) == [
        "server.hosts", "limits.idle_timeout", "tracing.sampling", "agents.gone", "agents.new",
    ]  # fmt: skip
    assert list(said.restart) == ["server.port", "limits.tasks"]
    assert config.server == Server(hosts=("x",))
    assert config.limits == Limits(idle_timeout=1)
    assert config.agents == new.agents


def test_nothing_new_changes_nothing() -> None:
    config, said = merged(Config(), Config())
    assert config == Config()
    assert not (said.changed or said.restart)


def test_settings_are_called_as_they_are() -> None:
    assert set(setting_paths()) >= LIVE
