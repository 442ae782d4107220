"""Optional parts that the configuration wants and this installation lacks."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

from ...adapters.a2a.grpc import optional
from ...gateway.telemetry import export_wanted
from ...registry import references
from .facts import Facts
from .finding import Finding


def extras(facts: Facts) -> Iterator[Finding]:
    port = facts.config.server.grpc_port
    if port and not optional.installed():
        yield Finding(f"server.grpc_port is {port}, and gRPC is not installed", "pip install 'agentgw[grpc]'")
    if find_spec("keyring") is None:
        for record in facts.records:
            values = [*record.headers.values(), *record.env.values()]
            values += [record.oauth.client_secret] if record.oauth is not None else []
            if any(match["service"] for value in values for match in references.in_text(value)):
                yield Finding(
                    f"{record.name} has its secret in the keyring, for which nothing is installed",
                    "pip install 'agentgw[keyring]'",
                )
    protocol = facts.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    if export_wanted(facts.environ) and protocol != "http/protobuf":
        yield Finding(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}, and traces are exported over http/protobuf alone",
            "unset it, and name the collector's port for that (4318) in OTEL_EXPORTER_OTLP_ENDPOINT",
        )


def summary(facts: Facts) -> str:
    there = [name for name, module in (("grpc", "grpc"), ("keyring", "keyring")) if find_spec(module)]
    return f"installed: {', '.join(there)}" if there else "none installed, none needed"
