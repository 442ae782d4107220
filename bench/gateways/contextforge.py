# /// script
# requires-python = ">=3.11"
# dependencies = ["mcp-contextforge-gateway==1.0.7.post20260921"]
# ///
"""IBM's ContextForge: ``contextforge.py PORT HOME`` serves MCP at /mcp. Agents are registered over its API.

As it comes, but for what would cost it time that the others do not spend: no keys are asked for, its caches
are in memory, nothing is logged.
"""

import os
import sys

port, home = sys.argv[1:]
os.environ |= {
    "AUTH_REQUIRED": "true",
    "CACHE_TYPE": "memory",
    "DATABASE_URL": f"sqlite:///{home}/contextforge.db",
    "JWT_SECRET_KEY": "only-for-a-benchmark-on-loopback-0123456789",  # pragma: allowlist secret
    "LOG_LEVEL": "CRITICAL",
    "MCP_REQUIRE_AUTH": "false",
    "PLATFORM_ADMIN_PASSWORD": "Only-4-a-benchmark!",  # pragma: allowlist secret
    "RATE_LIMITING_ENABLED": "false",
    "REQUIRE_USER_IN_DB": "false",
    "SSRF_ALLOW_LOCALHOST": "true",
}
os.chdir(home)

import uvicorn  # noqa: E402

uvicorn.run("mcpgateway.main:app", host="127.0.0.1", port=int(port), log_level="critical", access_log=False)
