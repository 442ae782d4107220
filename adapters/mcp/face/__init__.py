"""Serving MCP clients: the doors and what answers there."""
