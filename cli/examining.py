"""The work behind ``agentgw doctor``: gather the facts, have every check look at them, print."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from .checks import agents, disk, exposure, extras, machine, running, settings
from .checks.facts import Facts, gather
from .checks.finding import Finding
from .terminal import DIM, GREEN, RED, YELLOW, one_line, paint, print_json

SHOWN = 12  # findings of one check: all of it should fit on a screen

Look = Callable[[Facts], Iterator[Finding]]
# Each check: its name, what it finds, and what is said when it finds nothing.
CHECKS: tuple[tuple[str, Look, Callable[[Facts], str]], ...] = (
    ("configuration", settings.configuration, settings.summary),
    ("data", disk.data, disk.summary),
    ("gateway", running.gateway, running.summary),
    ("exposure", exposure.exposure, exposure.summary),
    ("agents", agents.agents, agents.summary),
    ("extras", extras.extras, extras.summary),
    ("machine", machine.machine, machine.summary),
)


class Checked(msgspec.Struct, frozen=True):
    """A check and what it found; ``summary`` where that is nothing ("": nor could it look)."""

    check: str
    findings: Sequence[Finding]
    summary: str


async def examine(file: str | None, as_json: bool) -> int:
    """Print what is found; 1 when something is wrong."""
    facts = await gather(file, os.environ)
    checked = [_checked(name, look, well, facts) for name, look, well in CHECKS]
    wrong = sum(finding.wrong for one in checked for finding in one.findings)
    if as_json:
        print_json(_document(facts, checked))
    else:
        print(f"agentgw {facts.version}")
        for one in checked:
            print("\n".join(_lines(one)))
        print(f"{wrong} thing{'s are' if wrong != 1 else ' is'} wrong" if wrong else "nothing is wrong")
    return int(wrong > 0)


def _checked(name: str, look: Look, well: Callable[[Facts], str], facts: Facts) -> Checked:
    found: list[Finding] = []
    try:
        found.extend(look(facts))
    except OSError as e:  # of a file that went away, or may not be looked at
        what = e.filename or "something"
        found.append(Finding(f"{what} can't be looked at: {e.strerror}", "run it as the gateway's user"))
    return Checked(name, found, "" if found else well(facts))


def _document(facts: Facts, checked: Sequence[Checked]) -> dict[str, Any]:
    findings = [
        {"check": one.check, "problem": f.problem, "fix": f.fix, "wrong": f.wrong}
        for one in checked
        for f in one.findings
    ]
    return {
        "ok": not any(finding["wrong"] for finding in findings),
        "version": facts.version,
        "home": str(facts.home),
        "config": facts.file or None,
        "gateway": facts.running.url if facts.running else None,
        "checks": [one.check for one in checked],
        "findings": findings,
    }


def _lines(one: Checked) -> Iterator[str]:
    if not one.findings:
        word, text = ("ok", one.summary) if one.summary else ("-", "not known")
        yield _line(word, GREEN, one.check, text)
    for finding in one.findings[:SHOWN]:
        word, style = ("wrong", RED) if finding.wrong else ("note", YELLOW)
        yield _line(word, style, one.check, f"{finding.problem} → {finding.fix}")
    if (more := len(one.findings) - SHOWN) > 0:
        yield _line("", DIM, one.check, f"and {more} more: agentgw doctor --json has all")


def _line(word: str, style: str, check: str, text: str) -> str:
    return f"{paint(f'{word:<5}', style, sys.stdout)}  {check:<13}  {one_line(text)}"
