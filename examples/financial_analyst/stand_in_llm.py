"""A stand-in for Ollama on machines without it: the same HTTP, no neural network. Standard library only.

It serves what crewai's ollama provider calls, POST /v1/chat/completions (whole or streamed, structured
output, tool calls), and GET /v1/models. It reads each prompt and answers by rule, so the same prompt always
gets the same answer, and another question gets another script:

- a request with response_format json_schema: tickers, time span, column and action found in its words
- a request with tools: a call of the tool with the script from the prompt; after its result, a summary of it
- any other request: a script, written for the parsed query that the prompt carries

Run it alone with `python stand_in_llm.py PORT`, or call `start()`.
"""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "stand-in"
MAX_BODY = 1024 * 1024
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
NUMBERS = {"a": 1} | {word: number for number, word in enumerate(WORDS, 1)}
SPAN = re.compile(rf"\b(\d{{1,4}}|{'|'.join(NUMBERS)})?[ -]?(day|week|month|quarter|year)s?\b", re.IGNORECASE)
MEASURES = ("open", "high", "low", "volume")
CODE_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
PRINTED = re.compile(
    r"^(\w+): (\w+) ([\d,.]+) on (\S+), ([\d,.]+) on (\S+), ([+-])(.+?%); lowest (\S+), highest (\S+)$"
)

SCRIPT = """\
import csv
from datetime import date, timedelta

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SYMBOLS = {symbols!r}
MEASURE = {measure!r}
DAYS = {days}
COMPARE = {compare}

with open("prices.csv", newline="") as file:
    rows = [row for row in csv.DictReader(file) if row["ticker"] in SYMBOLS]
start = max(date.fromisoformat(row["date"]) for row in rows) - timedelta(days=DAYS)
figure, axes = plt.subplots(figsize=(9, 5), dpi=100)
for symbol in SYMBOLS:
    mine = [row for row in rows if row["ticker"] == symbol and date.fromisoformat(row["date"]) >= start]
    days = [date.fromisoformat(row["date"]) for row in mine]
    values = [float(row[MEASURE]) for row in mine]
    first, last = values[0], values[-1]
    axes.plot(days, [100 * value / first for value in values] if COMPARE else values, label=symbol)
    print(
        f"{{symbol}}: {{MEASURE}} {{first:,.2f}} on {{days[0]}}, {{last:,.2f}} on {{days[-1]}}, "
        f"{{last / first - 1:+.1%}}; lowest {{min(values):,.2f}}, highest {{max(values):,.2f}}"
    )
axes.set_title({title!r})
axes.set_ylabel(f"{{MEASURE}}, first day = 100" if COMPARE else MEASURE)
axes.grid(alpha=0.3)
axes.legend()
figure.autofmt_xdate()
plt.savefig("plot.png", metadata={{"Software": None}})
"""


def start(port: int = 0) -> str:
    """Serve on loopback from a thread of this process; returns the base URL. Port 0 takes a free one."""
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, name="stand-in-llm", daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def reply(request: dict[str, Any]) -> dict[str, Any]:
    """The assistant's message for one chat completion request."""
    messages: list[dict[str, Any]] = request["messages"]
    prompt = next(str(m["content"]) for m in reversed(messages) if m["role"] == "user")
    if request.get("response_format", {}).get("type") == "json_schema":
        return _say(json.dumps(parse(prompt)))
    if tools := request.get("tools"):
        results = [str(m["content"]) for m in messages if m["role"] == "tool"]
        return _say(summarize(results[-1])) if results else _call(tools[0]["function"], prompt)
    return _say(f"```python\n{write_script(prompt)}```")


def parse(prompt: str) -> dict[str, Any]:
    """Tickers (by symbol or company), time span, column and action, from the words of the request."""
    known = re.findall(r"^- ([A-Z]+): (.+)$", prompt, re.MULTILINE)
    request = re.search(r"<request>\n(.*)\n</request>", prompt, re.DOTALL)
    words = request[1] if request else prompt
    lower = words.lower()
    places: dict[str, int] = {}
    for symbol, names in known:
        found = [match.start() for name in (symbol, *names.split(", ")) if (match := _word(name, lower))]
        if found:
            places[symbol] = min(found)
    amount, unit = next((m.groups() for m in SPAN.finditer(lower)), ("1", "year"))
    number = int(amount) if amount and amount.isdigit() else NUMBERS.get(amount or "a", 1)
    return {
        "symbols": sorted(places, key=places.__getitem__),
        "timeframe": f"{number} {unit}" + ("s" if number != 1 else ""),
        "measure": next((m for m in MEASURES if _word(f"{m}(?:ing|s)?", lower)), "close"),
        "action": "compare" if re.search(r"\b(compar\w+|versus|vs|relative|against)\b", lower) else "plot",
    }


def write_script(prompt: str) -> str:
    """A script for the parsed query, which is the last JSON object of the prompt with `symbols` in it."""
    found = re.findall(r"\{[^{}]*\"symbols\"[^{}]*\}", prompt)
    if not found:
        return 'raise SystemExit("There is no parsed query to write a script for.")\n'
    query = json.loads(found[-1])
    number, unit = query["timeframe"].split()
    days = int(number) * {"day": 1, "week": 7, "month": 30, "quarter": 91, "year": 365}[unit.rstrip("s")]
    return SCRIPT.format(
        symbols=query["symbols"],
        measure=query["measure"],
        days=days,
        compare=query["action"] == "compare",
        title=f"{', '.join(query['symbols'])}: {query['measure']}, last {query['timeframe']}",
    )


def summarize(result: str) -> str:
    """Sentences made from the lines that the script printed; what it printed otherwise is passed on."""
    said = [found.groups() for line in result.splitlines() if (found := PRINTED.match(line))]
    if not said:
        return result
    return "\n".join(
        f"{symbol} {'rose' if sign == '+' else 'fell'} {change}: its {measure} went from {first} on {start} "
        f"to {last} on {end}, between {low} and {high}."
        for symbol, measure, first, start, last, end, sign, change, low, high in said
    )


def _word(pattern: str, text: str) -> re.Match[str] | None:
    return re.search(rf"\b{pattern.lower()}\b", text)


def _say(content: str) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def _call(function: dict[str, Any], prompt: str) -> dict[str, Any]:
    """A call of the tool with the script that the prompt holds as its first argument."""
    blocks = CODE_BLOCK.findall(prompt)
    argument = next(iter(function["parameters"]["properties"]))
    call = {"name": function["name"], "arguments": json.dumps({argument: blocks[-1] if blocks else prompt})}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
    }


class Handler(BaseHTTPRequestHandler):
    """The few routes of an OpenAI-compatible server that crewai and the demo need."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "nobody"}
            self._send({"object": "list", "data": [model]})
        else:
            self._send({"error": {"message": "not found", "type": "invalid_request_error"}}, 404)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if self.path != "/v1/chat/completions" or length > MAX_BODY:
            self.close_connection = True
            self._send({"error": {"message": "not found or too large", "type": "invalid_request_error"}}, 404)
            return
        try:
            request = json.loads(self.rfile.read(length))
            message = reply(request)
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            self._send({"error": {"message": repr(error), "type": "invalid_request_error"}}, 400)
            return
        finish = "tool_calls" if "tool_calls" in message else "stop"
        head = {"id": "chatcmpl-1", "created": 0, "model": request.get("model", MODEL)}
        if request.get("stream"):
            calls = [{"index": i, **call} for i, call in enumerate(message.get("tool_calls", []))]
            choice = {"index": 0, "delta": message | {"tool_calls": calls}, "finish_reason": finish}
            chunk = head | {"object": "chat.completion.chunk", "choices": [choice]}
            self._write(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream")
            return
        usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
        choice = {"index": 0, "message": message, "finish_reason": finish}
        self._send(head | {"object": "chat.completion", "choices": [choice], "usage": usage})

    def _send(self, body: dict[str, Any], status: int = 200) -> None:
        self._write(json.dumps(body).encode(), "application/json", status)

    def _write(self, body: bytes, media_type: str, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: in stdio mode every line would stand in somebody's log."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
