"""Calling MCP servers: transports, eras, turns of tools."""
