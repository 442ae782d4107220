"""A hosted MCP server on the official SDK, with its auth settings: it takes tokens of an authorization server
that were issued for it.

    python mcp_hosted.py --port 9003 --issuer http://127.0.0.1:9004

Needs mcp, httpx and uvicorn.
"""

from __future__ import annotations

import argparse

import httpx
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer


class Introspection:
    """Asks the authorization server what a token is (RFC 7662)."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer

    async def verify_token(self, token: str) -> AccessToken | None:
        async with httpx.AsyncClient() as client:
            answer = (await client.post(f"{self._issuer}/introspect", data={"token": token})).json()
        if not answer["active"]:
            return None
        return AccessToken(
            token=token, client_id=answer["client_id"], scopes=answer["scope"].split(), resource=answer["aud"]
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--issuer", required=True)
    options = parser.parse_args()
    url = f"http://127.0.0.1:{options.port}/mcp"
    server = MCPServer(
        "hosted",
        auth=AuthSettings(
            issuer_url=options.issuer,
            resource_server_url=url,
            required_scopes=["notes"],
            validate_token_resource=True,
        ),
        token_verifier=Introspection(options.issuer),
    )

    @server.tool()
    def note(text: str) -> str:
        """Takes a note."""
        return f"noted: {text}"

    server.run("streamable-http", host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
