"""What ``agentgw serve`` says when it is ready."""

from __future__ import annotations


def banner(base_url: str, grpc: str = "", wanted: str = "") -> str:
    """Where each kind of client points, and what it needs to come in (see ``credentials``), in a few lines.
    ``grpc``: where gRPC is served, if it is."""
    base_url = base_url.rstrip("/")
    over_grpc = f"\n  over gRPC    {grpc}          with the tenant NAME" if grpc else ""
    return f"""\
agentgw is ready at {base_url}
  MCP hosts    {base_url}/mcp          one agent: {base_url}/mcp/NAME
  A2A clients  {base_url}/a2a/NAME/{over_grpc}
  ACP clients  {base_url}/acp
  any client   {base_url}
Register an agent:  agentgw agents add NAME URL   or   agentgw agents add NAME -- COMMAND ARG…
Set up a client:    agentgw connect cursor   (vscode, claude-desktop, claude-code, zed, acp, a2a, …)
{wanted}""".rstrip()


def credentials(closed: bool, issuer: str, *, local: bool) -> str:
    """What callers need to come in, and how to make it. ``closed``: every caller needs something; ``issuer``:
    whose tokens are good, too ("": nobody's); ``local``: only this machine can call."""
    if issuer:
        return f"Callers need a token of {issuer}, or a key:   agentgw keys create NAME"
    if closed:
        return "Callers need a key:  agentgw keys create NAME"
    who = "whoever calls from this machine" if local else "anybody who can reach this address"
    return f"No key is wanted: {who} may come in, until there is one:   agentgw keys create NAME"
