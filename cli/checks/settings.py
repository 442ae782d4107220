"""The configuration: can it be read, and is it meant so?"""

from __future__ import annotations

from collections.abc import Iterator

from ...gateway.config import amiss, doubtful
from ...registry import records
from .facts import Facts
from .finding import Finding


def configuration(facts: Facts) -> Iterator[Finding]:
    if facts.mistake:
        yield Finding(facts.mistake, "correct it: agentgw serve does not start with it")
        return
    for warning in facts.warnings:
        yield Finding(warning, "unset it, or give it the name of a setting")
    if wrong := amiss(facts.config):
        yield Finding(wrong, "set it: agentgw serve does not start without")
    for doubt in doubtful(facts.config):
        yield Finding(doubt, "change it in the configuration")
    for name, entry in facts.config.agents.items():
        for doubt in records.doubts(name, entry):
            yield Finding(doubt, "write it as a reference, then agentgw reload")
    stored = {record.name for record in facts.stored}
    for name in sorted(stored & facts.config.agents.keys()):
        yield Finding(
            f"the agent {name} that was registered is hidden by the configuration file's of the same name",
            "give one of them another name",
            wrong=False,
        )


def summary(facts: Facts) -> str:
    return facts.file or "no file, the defaults hold"
