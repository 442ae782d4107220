"""Which configuration a command runs with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from ..gateway.config import Config
from ..gateway.config_file import load as load_file
from ..gateway.errors import ConfigError
from .terminal import YELLOW, WrongUse, note


def read(file: str | None = None) -> tuple[Config, list[str]]:
    """The configuration of ``file``, else of ``AGENTGW_CONFIG``, else the defaults, under ``AGENTGW_…__…``
    variables; and warnings. Raises ConfigError."""
    return load_file(Path(file) if file else None, os.environ)


def load(file: str | None = None) -> Config:
    """The same. Warnings go to stderr. Raises WrongUse."""
    try:
        config, warnings = read(file)
    except ConfigError as e:
        raise WrongUse(e.message) from None
    for warning in warnings:
        note(f"warning: {warning}", style=YELLOW)
    return config


def with_server(
    config: Config,
    *,
    host: str | None,
    port: int | None,
    grpc_port: int | None = None,
    public_url: str | None,
    workers: int | None = None,
    allow_anonymous: bool,
) -> Config:
    """``config`` with what the command line says instead (None, False: it says nothing)."""
    changes: dict[str, Any] = {
        "host": host, "port": port, "grpc_port": grpc_port, "public_url": public_url, "workers": workers,
    }  # fmt: skip
    changes = {key: value for key, value in changes.items() if value is not None}
    if "public_url" in changes:
        changes["public_url"] = changes["public_url"].rstrip("/")
    if allow_anonymous:
        changes["allow_anonymous"] = True
    return msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **changes))
