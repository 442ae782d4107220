"""The page that a browser gets at the bare address: the agents, and where each kind of client points.

Server-rendered, without scripts or anything from elsewhere. Everything that an agent or an operator wrote is
escaped, and the policy forbids whatever would slip through.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from ..control import AgentInfo

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .4rem .6rem; border-bottom: 1px solid #8884; }
code { overflow-wrap: anywhere; }
small { opacity: .75; display: block; }
.ok { color: #188038; } .down { color: #c5221f; } .degraded, .needs-auth { color: #b06000; }
"""
_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_SKILLS = 12  # shown of each agent


def page(agents: Sequence[AgentInfo], base_url: str) -> str:
    """The whole page. ``base_url``: how the browser reached the gateway, without a final slash."""
    shown = [a for a in agents if a.enabled]
    example = shown[0].name if shown else "NAME"
    doors = (
        ("any client", "", "the one endpoint: MCP, A2A and ACP at the bare address"),
        ("MCP hosts", "/mcp", f"every agent as tools; one alone: /mcp/{example}"),
        ("A2A clients", f"/a2a/{example}/", "one agent; its card is beneath"),
        ("ACP clients", "/acp", "base URL: /agents, /runs, …"),
        ("scripts", "/api/schema", "the admin API"),
    )
    pointers = "".join(
        f"<tr><td>{escape(who)}</td><td><code>{escape(base_url + path)}</code></td>"
        f"<td>{escape(what)}</td></tr>"
        for who, path, what in doors
    )
    rows = "".join(map(_row, agents)) or (
        "<tr><td colspan=5>No agents yet. Add one: <code>agentgw agents add NAME URL</code></td></tr>"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>agentgw</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><h1>agentgw</h1>"
        "<h2>Where clients point</h2><table><tr><th>Client</th><th>URL</th><th></th></tr>"
        f"{pointers}</table><h2>Agents</h2><table><tr><th>Name</th><th>Protocol</th><th>Target</th>"
        f"<th>Health</th><th>Description and skills</th></tr>{rows}</table></body></html>"
    )


def _row(agent: AgentInfo) -> str:
    health = agent.health if agent.enabled else "disabled"
    skills = ", ".join(skill.name or skill.id for skill in agent.skills[:_SKILLS])
    if len(agent.skills) > _SKILLS:
        skills += f" and {len(agent.skills) - _SKILLS} more"
    cells = (
        f"<strong>{escape(agent.name)}</strong>",
        escape(agent.protocol),
        f"<code>{escape(agent.target)}</code>",
        f'<span class="{escape(health)}">{escape(health)}</span><small>{escape(agent.detail)}</small>',
        f"{escape(agent.description)}<small>{escape(skills)}</small>",
    )
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
