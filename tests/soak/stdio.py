"""The soak's agent that is a command: MCP with the handshake, one message a line. Now and then it dies, or is
late, or says what is no message.

python stdio.py SEED
"""

from __future__ import annotations

import json
import random
import sys
import time

CHANCE = random.Random(int(sys.argv[1]))
TOOL = {
    "name": "echo",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


def say(message: object) -> None:
    print(json.dumps(message), flush=True)


for line in sys.stdin:
    call = json.loads(line)
    id, method = call.get("id"), call.get("method")
    if id is None:
        continue
    result: object = {}
    if method == "initialize":
        result = {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"},
        }
    elif method == "tools/list":
        result = {"tools": [TOOL]}
    elif method == "tools/call":
        match CHANCE.choices(["", "dies", "late", "garbage", "silent"], [90, 1, 5, 3, 1])[0]:
            case "dies":
                sys.exit(1)
            case "late":
                time.sleep(0.05)
            case "garbage":
                print("{ no message", flush=True)
            case "silent":
                continue
        result = {"content": [{"type": "text", "text": call["params"]["arguments"].get("text", "")}]}
    else:
        say({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no such method"}})
        continue
    say({"jsonrpc": "2.0", "id": id, "result": result})
