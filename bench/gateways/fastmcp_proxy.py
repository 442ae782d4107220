# /// script
# requires-python = ">=3.11"
# dependencies = ["fastmcp==4.1.6"]
# ///
"""FastMCP as a proxy: ``fastmcp_proxy.py PORT URL`` serves the MCP server at URL at /mcp."""

import sys

from fastmcp.server import create_proxy

create_proxy(sys.argv[2], name="bench").run(
    transport="http", host="127.0.0.1", port=int(sys.argv[1]), log_level="error", show_banner=False
)
