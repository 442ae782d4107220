"""What ``agentgw serve`` says when it is ready."""

from __future__ import annotations


def banner(base_url: str, grpc: str = "") -> str:
    """Where each kind of client points, in a few lines. ``grpc``: where gRPC is served, if it is."""
    base_url = base_url.rstrip("/")
    over_grpc = f"\n  over gRPC    {grpc}          with the tenant NAME" if grpc else ""
    return f"""\
agentgw is ready at {base_url}
  MCP hosts    {base_url}/mcp          one agent: {base_url}/mcp/NAME
  A2A clients  {base_url}/a2a/NAME/{over_grpc}
  ACP clients  {base_url}/acp
  any client   {base_url}
Register an agent:  agentgw agents add NAME URL   or   agentgw agents add NAME -- COMMAND ARG…
Set up a client:    agentgw connect cursor   (vscode, claude-desktop, claude-code, zed, acp, a2a, …)"""
