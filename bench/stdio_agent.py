"""The benchmark's MCP agent (handshake) as a command: one message a line, see ``speech``."""

from __future__ import annotations

import sys
import threading
import time

from speech import Answer, Streamed, mcp

_writing = threading.Lock()


def say(message: bytes) -> None:
    with _writing:
        sys.stdout.buffer.write(message + b"\n")
        sys.stdout.buffer.flush()


def stream(said: Streamed) -> None:
    for piece in said.pieces:
        say(piece().removeprefix(b"data: ").strip())
        time.sleep(said.pause)


for line in sys.stdin.buffer:
    answer = mcp(False, "POST", line)
    if isinstance(answer, Answer):
        if answer.body:
            say(answer.body)
    else:
        threading.Thread(target=stream, args=(answer,), daemon=True).start()
