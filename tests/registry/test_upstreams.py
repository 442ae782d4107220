"""Upstreams hear that limits have changed, if they keep any."""

from __future__ import annotations

from typing import Any, cast

from agentgw.gateway.config import Config, Limits
from agentgw.gateway.model import Record
from agentgw.gateway.ports import Adapter, Host
from agentgw.registry.upstreams import Upstreams

from ..support.agents import FakeHost, World, WorldUpstream


class Keeping(WorldUpstream):
    """Remembers how much it may be sent, as a connection does."""

    def __init__(self, record: Record, host: Host) -> None:
        super().__init__(record, host, World())
        self.host = host
        self.rebound()

    def rebound(self) -> None:
        self.limit = self.host.config.limits.body


def test_those_that_keep_limits_are_told_of_others() -> None:
    host = FakeHost()
    adapter = Adapter(id="keeping", title="Keeping", upstream=cast("Any", Keeping))
    upstreams = Upstreams({"keeping": adapter}, cast("Host", host), 1.0)
    record = Record(name="a", protocol="keeping", url="http://127.0.0.1:9/")
    kept = [upstreams.make(record), upstreams.make(record)]
    host.config = Config(limits=Limits(body=7))
    upstreams.rebound()
    assert [cast("Keeping", one).limit for one in kept] == [7, 7]
