"""A stdio MCP server that goes wrong when it is asked to, without any library.

    python stdio_peer.py [--handshake] [--at-start FAULT]

The tool ``echo`` takes a ``text``: the name of a function of this file, or ``pid``; to all else it says
"fine".
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import Any

HANDSHAKE = "--handshake" in sys.argv
SECRET = 'Traceback (most recent call last): File "/srv/secret/agent.py", password=hunter2'
BIG = 8 * 1024 * 1024


def say(message: Any) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def raw(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def result(id: Any, value: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "result": value if HANDSHAKE else {"resultType": "complete", **value}}


def text(id: Any, words: str) -> dict[str, Any]:
    return result(id, {"content": [{"type": "text", "text": words}]})


def progress(words: str, of: Any) -> dict[str, Any]:
    params = {"progressToken": of, "progress": 1, "message": words}
    return {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}


# --- faults ----------------------------------------------------------------------------------


def dies(id: Any, token: Any) -> None:
    print(SECRET, file=sys.stderr, flush=True)
    os._exit(3)


def is_killed(id: Any, token: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hangs(id: Any, token: Any) -> None:
    """This call only: others are answered."""


def wedges(id: Any, token: Any) -> None:
    time.sleep(600)


def closes_its_mouth(id: Any, token: Any) -> None:
    os.close(1)
    time.sleep(600)


def writes_8_mb(id: Any, token: Any) -> None:
    say(text(id, "x" * BIG))


def writes_a_line_without_end(id: Any, token: Any) -> None:
    while True:
        raw("x" * 65_536)


def answers_with_another_id(id: Any, token: Any) -> None:
    say(text(f"{id}-other", "fine"))


def answers_garbage(id: Any, token: Any) -> None:
    raw(SECRET + "\n\x00\x01\x02\n")


def nests(id: Any, token: Any) -> None:
    deep = "[" * 200_000 + "]" * 200_000
    raw(f'{{"jsonrpc":"2.0","id":{id},"result":{deep}}}\n')


def is_no_utf8(id: Any, token: Any) -> None:
    sys.stdout.buffer.write(b'{"jsonrpc":"2.0","id":%d,"result":{"content":[{"text":"\xff"}]}}\n' % id)
    sys.stdout.buffer.flush()


def crashes(id: Any, token: Any) -> None:
    say({"jsonrpc": "2.0", "id": id, "error": {"code": -32603, "message": SECRET}})


def reports_without_end(id: Any, token: Any) -> None:
    while True:
        say(progress("on it", token))
        time.sleep(0.01)


def floods_stderr(id: Any, token: Any) -> None:
    while True:
        sys.stderr.write("noise " * 10_000 + "\n")


FAULTS = {
    f.__name__: f
    for f in (
        dies, is_killed, hangs, wedges, closes_its_mouth, writes_8_mb, writes_a_line_without_end,
        answers_with_another_id, answers_garbage, nests, is_no_utf8, crashes, reports_without_end,
        floods_stderr,
    )
}  # fmt: skip

# --- what is no fault ------------------------------------------------------------------------


def leaks(id: Any, token: Any) -> None:
    print("the key is " + os.environ["KEY"] + " \x1b[31mred", file=sys.stderr, flush=True)
    say(text(id, "fine"))


def has_children(id: Any, token: Any) -> None:
    """One in its group, one that has left it; both deaf to SIGTERM."""
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('x', flush=True); time.sleep(600)"
    )
    pids = [os.getpid()]
    for leaves in (False, True):
        child = subprocess.Popen(
            [sys.executable, "-c", deaf], start_new_session=leaves, stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        pids.append(child.pid)
    say(text(id, json.dumps(pids)))


DEEDS = {**FAULTS, "leaks": leaks, "has_children": has_children}


def called(id: Any, params: dict[str, Any]) -> None:
    fault = params.get("arguments", {}).get("text")
    if fault == "pid":
        say(text(id, str(os.getpid())))
    elif fault in DEEDS:
        DEEDS[fault](id, params.get("_meta", {}).get("progressToken"))
    else:
        say(text(id, "fine"))


def answered(message: dict[str, Any]) -> None:
    id, method = message["id"], message["method"]
    info = {"name": "peer", "version": "1"}
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    if method == "tools/call":
        called(id, message["params"])
    elif method == "tools/list":
        say(result(id, {"tools": [{"name": "echo", "inputSchema": schema}]}))
    elif method == "ping" and HANDSHAKE:
        say({"jsonrpc": "2.0", "id": id, "result": {}})
    elif method == "server/discover" and not HANDSHAKE:
        found = {"supportedVersions": ["2026-07-28"], "serverInfo": info, "capabilities": {"tools": {}}}
        say(result(id, found))
    elif method == "initialize" and HANDSHAKE:
        found = {"protocolVersion": "2025-11-25", "serverInfo": info, "capabilities": {"tools": {}}}
        say(result(id, found))
    else:
        say({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no such method"}})


def main() -> None:
    if "--at-start" in sys.argv:
        FAULTS[sys.argv[sys.argv.index("--at-start") + 1]](0, 0)
    if "--deaf" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            answered(message)
    if "--deaf" in sys.argv:
        time.sleep(600)


if __name__ == "__main__":
    main()
