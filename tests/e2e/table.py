"""The table [client, agent, feature], filled by the tests of its cells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CLIENTS = [
    "mcp-handshake",
    "mcp-2026",
    "a2a-jsonrpc-1.0",
    "a2a-rest-1.0",
    "a2a-jsonrpc-0.3",
    "a2a-js",
    "acp-python",
    "acp-ts",
]
AGENTS = ["mcp-http", "mcp-stdio", "a2a-1.0", "a2a-0.3", "acp"]
FEATURES = [
    "discover",
    "call",
    "streaming",
    "data",
    "files in",
    "files out",
    "context",
    "question",
    "error",
    "crash hidden",
    "unknown agent",
    "trace",
    "50 at once",
    "cancel",
    "long task",
    "rejoin",
    "late error",
]

ABSENT = "\N{EN DASH}"

SERVERS = ("mcp-http", "mcp-stdio")
NO_CONVERSATION = "an MCP server has no conversations: every tool call stands alone"
NO_TASK = "a host that calls a server's own tool waits for it: there is no task to come back to"

# What a pair of protocols has no form for, and why.
NOT_THERE: dict[tuple[str, str, str], str] = {
    **{(client, server, "context"): NO_CONVERSATION for client in CLIENTS for server in SERVERS},
    **{(host, server, "rejoin"): NO_TASK for host in ("mcp-handshake", "mcp-2026") for server in SERVERS},
}

CELLS = [
    (client, agent, feature)
    for client in CLIENTS
    for agent in AGENTS
    for feature in FEATURES
    if (client, agent, feature) not in NOT_THERE
]

# The default run has everything for one client and one agent of each kind and era, and for the further ones
# what differs most between SDKs and versions; CI runs the rest as well.
TELLING = ("call", "streaming", "question", "cancel")
ONE_OF_EACH = {"mcp-handshake", "mcp-2026", "a2a-jsonrpc-1.0", "acp-python", "mcp-http", "a2a-1.0", "acp"}


def is_slow(client: str, agent: str, feature: str) -> bool:
    if feature == "50 at once" and client == "mcp-handshake":
        return True  # mcp-2026 does that, too
    further = {client, agent} - ONE_OF_EACH
    return len(further) == 2 or (len(further) == 1 and feature not in TELLING)


DOCUMENT = """# What works between which client and which agent

Written by `uv run pytest tests/e2e/test_table.py -m '' --write-table` from a run with real processes: foreign
clients and agents on the official SDKs, and a gateway between them. ✓ passed, ✗ failed, the rest is explained
below.

"""


class Table:
    """A pytest plugin: it collects the cells and prints them at the end of the run."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.results: dict[tuple[str, str, str], str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            params = getattr(getattr(item, "callspec", None), "params", {})
            if {"client", "agent", "feature"} == params.keys():
                item.user_properties.append(("cell", (params["client"], params["agent"], params["feature"])))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cell = dict(report.user_properties).get("cell")
        if not isinstance(cell, (list, tuple)) or (report.when != "call" and report.passed):
            return
        client, agent, feature = cell
        before = self.results.get((client, agent, feature), "✓")
        self.results[client, agent, feature] = before if report.passed else "✗"

    def lines(self) -> list[str]:
        notes = sorted(set(NOT_THERE.values()))
        head = ["client", "agent", *FEATURES]
        rows = [
            [client, agent, *(self.mark(client, agent, feature, notes) for feature in FEATURES)]
            for client in CLIENTS
            for agent in AGENTS
            if any(key[:2] == (client, agent) for key in self.results)
        ]
        widths = [max(len(row[at]) for row in [head, *rows]) for at in range(len(head))]

        def line(cells: list[str]) -> str:
            return (
                "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
            )

        rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
        explained = [f"{ABSENT}{number} {reason}  " for number, reason in enumerate(notes, 1)]
        return [line(head), rule, *map(line, rows), "", *explained]

    def mark(self, client: str, agent: str, feature: str, notes: list[str]) -> str:
        if reason := NOT_THERE.get((client, agent, feature)):
            return f"{ABSENT}{notes.index(reason) + 1}"
        return self.results.get((client, agent, feature), " ")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.results:
            return
        terminalreporter.section("client by agent by feature (empty: not in this run)")
        for line in self.lines():
            terminalreporter.line(line)
        if not self.config.getoption("--write-table"):
            return
        if missing := [cell for cell in CELLS if cell not in self.results]:
            terminalreporter.line(f"table not written: {len(missing)} cells did not run")
            return
        path = Path(str(self.config.rootpath)) / "docs" / "e2e-table.md"
        path.write_text(DOCUMENT + "\n".join(self.lines()).rstrip() + "\n")
        terminalreporter.line(f"written: {path}")
