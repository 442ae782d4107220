"""grpcio, which is optional and has no types: looked for when it is needed."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ....gateway.errors import ConfigError

MISSING = "gRPC is not installed here: pip install 'agentgw[grpc]'"


def installed() -> bool:
    """Whether gRPC can be used here."""
    return importlib.util.find_spec("grpc") is not None


def grpc() -> Any:
    """The module ``grpc``, with ``grpc.aio``. Raises ConfigError that says what to install."""
    try:
        for needed in ("google.protobuf", "google.rpc.status_pb2", "grpc.aio"):
            importlib.import_module(needed)
        return importlib.import_module("grpc")
    except ImportError as e:
        raise ConfigError(MISSING, detail=str(e)) from e
