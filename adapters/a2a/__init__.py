"""A2A (Agent2Agent), revisions 1.0 and 0.3, over JSON-RPC, HTTP+JSON and gRPC: the plugin's declaration."""

from __future__ import annotations

from ...gateway.config import Config
from ...gateway.model import Record
from ...gateway.ports import ASGI, Adapter, Engine, Face, Found, Host, Listener, Upstream


def _upstream(record: Record, host: Host) -> Upstream:
    from .upstream.upstream import A2AUpstream

    return A2AUpstream(record, host)


def _face(engine: Engine) -> Face:
    from .face.face import A2AFace

    return A2AFace(engine)


async def _probe(url: str, headers: list[tuple[str, str]], host: Host) -> Found | None:
    from .upstream.upstream import probe

    return await probe(url, headers, host)


def _listener(app: ASGI, config: Config, host: str) -> Listener | None:
    if not config.server.grpc_port:
        return None
    from .grpc import optional

    optional.grpc()  # raises ConfigError that says what to install
    from .grpc.server import GrpcListener

    return GrpcListener(app, config, host)


adapter = Adapter(
    id="a2a", title="A2A", rank=20, upstream=_upstream, face=_face, probe=_probe, listener=_listener
)
