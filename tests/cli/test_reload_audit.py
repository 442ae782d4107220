"""A reload that a signal asked for is in the audit log, as one over the admin API is."""

from __future__ import annotations

import json

from agentgw.cli.reloading import Reloader
from agentgw.gateway.audit import Audit
from agentgw.gateway.config import Config, Limits
from agentgw.gateway.errors import ConfigError


async def test_a_signal_s_reload_is_recorded_and_so_is_a_failed_one() -> None:
    async def apply(_: Config) -> None: ...

    answers: list[Config | None] = [Config(limits=Limits(rate=5.0)), None]

    def reread() -> tuple[Config, list[str]]:
        config = answers.pop(0)
        if config is None:
            raise ConfigError("it is wrong")
        return config, []

    reloader, audit = Reloader(Config(), reread, apply), Audit()
    reloader._audit = lambda: audit
    await reloader._told()
    await reloader._told()
    first, second = map(json.loads, audit.drain().splitlines())
    assert (first["event"], first["operation"], first["principal"]) == ("change", "reload", "owner")
    assert (first["subject"], second["error"]) == ("limits.rate", "config")
