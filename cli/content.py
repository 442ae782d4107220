"""What the user gives as message parts."""

from __future__ import annotations

import mimetypes
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..gateway.model import Data, File, Part, Text
from .terminal import WrongUse


def parts(text: str | None, data: str | None, files: Sequence[str]) -> list[Part]:
    """Text, then data, then files. Without any of them, or for the text ``-``, standard input is the
    text unless it is a terminal. Raises WrongUse."""
    wanted: list[Part] = []
    if text == "-" or (text is None and data is None and not files):
        text = _standard_input(asked=text == "-")
    if text is not None:
        wanted.append(Text(text=text))
    if data is not None:
        wanted.append(Data(data=_json(data)))
    wanted += [_file(path) for path in files]
    return wanted


def _standard_input(asked: bool) -> str:
    if sys.stdin is None or (sys.stdin.isatty() and not asked):
        raise WrongUse("say something: agentgw call NAME TEXT, or --data, --file, or pipe the text in")
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise WrongUse("standard input is not UTF-8 text; send it as it is with --file PATH") from None
    text = text.removesuffix("\n")
    if not text:
        raise WrongUse("there is no text on standard input: agentgw call NAME TEXT")
    return text


def _json(data: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as e:
        raise WrongUse(f"--data is not valid JSON: {e}") from None


def _file(path: str) -> File:
    try:
        content = Path(path).expanduser().read_bytes()
    except OSError as e:
        raise WrongUse(f"--file {path}: {e.strerror}") from None
    media_type = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return File(content=content, media_type=media_type, name=Path(path).name)
