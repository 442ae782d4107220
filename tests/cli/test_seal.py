"""``agentgw seal``, with and without a running gateway."""

from __future__ import annotations

from typing import Any

import httpx

from ..support.serving import serving

Cli = Any
Spawn = Any


def ring(cli: Cli) -> list[list[str]]:
    return [line.split() for line in (cli.home / "seal.keys").read_text().splitlines()]


def test_rotate_without_a_gateway(cli: Cli) -> None:
    assert cli.run("seal", "rotate", "--keep", "1h").returncode == 0
    first = ring(cli)
    done = cli.json("seal", "rotate")
    assert done["resealed"] == 0 and len(done["former"]) == 2
    assert [words[0] for words in ring(cli)[1:]] == [words[0] for words in first]
    assert ring(cli)[1][1] == done["former"][0] > done["former"][1] == ring(cli)[2][1]
    assert (cli.home / "seal.keys").stat().st_mode & 0o777 == 0o600
    wrong = cli.run("seal", "rotate", "--keep", "soon")
    assert wrong.returncode == 2 and "--keep" in wrong.stderr


def test_rotate_in_a_running_gateway_needs_its_owner(cli: Cli, spawn: Spawn, free_port: Any) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    gateway = serving(spawn, cli, port)
    try:
        keys = httpx.get(f"{url}/.well-known/jwks.json").json()
        before = ring(cli)
        refused = httpx.post(f"{url}/api/seal/rotate", json={"keep": 0})
        assert refused.status_code in (401, 403)
        assert ring(cli) == before
        assert cli.run("seal", "rotate", "--keep", "0s").returncode == 0
        assert len(ring(cli)) == 1 and ring(cli) != before
    finally:
        gateway.stop()
    again = serving(spawn, cli, port)
    try:
        # The key that signs cards lies sealed in the store: it has outlived the key that sealed it.
        assert httpx.get(f"{url}/.well-known/jwks.json").json() == keys
    finally:
        again.stop()
