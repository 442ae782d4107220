"""``agentgw call`` against a gateway that is played by the test."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Any
Fake = Any
Exchange = Any

CALL = "POST /api/agents/echo/call"
BASE = {"id": "t1", "context_id": "c1", "agent": "echo", "trace_id": "ab" * 16}
DONE = BASE | {"state": "completed"}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def message(*parts: Any) -> dict[str, Any]:
    return {"role": "agent", "parts": list(parts)}


def delta(words: str) -> dict[str, Any]:
    return {"type": "message_delta", "parts": [text(words)]}


def turn(*events: Any, end: Any) -> Callable[[Exchange], None]:
    """A route that plays one turn."""

    def play(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream")
        exchange.event(BASE | {"state": "working"}, "task")
        for seq, event in enumerate(events, 1):
            exchange.event({"seq": seq, "at": "", "event": event}, "event")
        exchange.event(end, "task")

    return play


QUESTION = BASE | {
    "state": "input_required",
    "input_request": {"message": message(text("Which city?"))},
}


def form(schema: Any) -> dict[str, Any]:
    request = {"message": message(text("Tell me")), "kind": "form", "schema": schema}
    return BASE | {"state": "input_required", "input_request": request}


def test_the_answer_streams_to_stdout_piece_by_piece(cli: Cli, fake: Fake) -> None:
    go = threading.Event()

    def play(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream")
        exchange.event(BASE | {"state": "working"}, "task")
        exchange.event({"seq": 1, "at": "", "event": delta("first ")}, "event")
        assert go.wait(60)
        exchange.event({"seq": 2, "at": "", "event": delta("second")}, "event")
        whole = {"type": "message", "message": message(text("first second"))}
        exchange.event({"seq": 3, "at": "", "event": whole}, "event")
        exchange.event(DONE, "task")

    fake.routes[CALL] = play
    with cli.at(fake.url).start("call", "echo", "hi") as process:
        assert process.stdout.read(6) == b"first "  # while the agent still works
        go.set()
        assert process.stdout.read() == b"second\n"
        assert process.stderr.read() == b""
    assert process.returncode == 0
    assert fake.asked(CALL)[0].json == {
        "parts": [text("hi")], "skill": None, "context_id": None, "task_id": None,
    }  # fmt: skip


def test_progress_is_no_answer(cli: Cli, fake: Fake) -> None:
    progress = {"type": "progress", "message": "halfway", "progress": 1, "total": 2}
    working = {"type": "state", "state": "working", "message": message(text("thinking"))}
    fake.routes[CALL] = turn(progress, working, delta("done"), end=DONE)
    done = cli.at(fake.url).run("call", "echo", "hi")
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_everything_given_is_sent(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    fake.routes[CALL] = turn(end=DONE)
    content = bytes(range(256))
    (tmp_path / "picture.png").write_bytes(content)
    done = cli.at(fake.url).run(
        "call", "echo", "look", "--data", '{"a": [1]}', "--file", str(tmp_path / "picture.png"),
        "--skill", "see", "--context", "c9", "--task", "t9",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    sent = fake.asked(CALL)[0].json
    assert sent["parts"][:2] == [text("look"), {"type": "data", "data": {"a": [1]}}]
    file = sent["parts"][2]
    assert base64.b64decode(file.pop("content")) == content
    assert file == {"type": "file", "media_type": "image/png", "name": "picture.png"}
    assert (sent["skill"], sent["context_id"], sent["task_id"]) == ("see", "c9", "t9")


def test_timeouts_go_along_as_headers(cli: Cli, fake: Fake) -> None:
    fake.routes[CALL] = turn(end=DONE)
    done = cli.at(fake.url).run("call", "echo", "hi", "--timeout", "90s", "--idle-timeout", "1m30s")
    assert done.returncode == 0, done.stderr
    sent = fake.asked(CALL)[0].headers
    assert (sent["agentgw-total-timeout"], sent["agentgw-idle-timeout"]) == ("90s", "1m30s")
    cli.at(fake.url).run("call", "echo", "hi")
    assert not [name for name in fake.asked(CALL)[1].headers if "timeout" in name]


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_piped_input_is_the_text(cli: Cli, fake: Fake, arguments: list[str]) -> None:
    fake.routes[CALL] = turn(end=DONE)
    cli.at(fake.url).run("call", "echo", *arguments, input="piped\nlines\n")
    assert fake.asked(CALL)[0].json["parts"] == [text("piped\nlines")]


def test_json_is_one_document_with_all_of_the_answer(cli: Cli, fake: Fake) -> None:
    picture = {"type": "file", "content": "AAEC", "media_type": "image/png", "name": "p.png"}
    artifact = {"artifact_id": "a1", "name": "chart", "parts": [text("axis"), picture]}
    end = DONE | {
        "messages": [message(text("one "), text("two"))],
        "artifacts": [artifact],
        "status_message": message(text("bye")),
    }
    fake.routes[CALL] = turn(delta("one two"), end=end)
    answer = cli.at(fake.url).json("call", "echo", "hi")
    assert answer == {
        "agent": "echo",
        "task_id": "t1",
        "context_id": "c1",
        "state": "completed",
        "text": "one two\naxis\nbye",
        "parts": [text("one "), text("two"), text("axis"), picture, text("bye")],
        "artifacts": [artifact],
        "input_request": None,
        "error": None,
        "trace_id": "ab" * 16,
    }


def test_a_failure_says_why_and_exits_1(cli: Cli, fake: Fake) -> None:
    fault = {"code": "agent_error", "message": "no such\ncity"}
    end = BASE | {"state": "failed", "fault": fault, "status_message": message(text("no such\ncity"))}
    finished = {"type": "finished", "state": "failed", "message": message(text("no such\ncity"))}
    fake.routes[CALL] = turn(delta("looking"), finished, end=end)
    done = cli.at(fake.url).run("call", "echo", "hi")
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("looking\n", "agentgw: echo: no such city\n")
    answer = cli.at(fake.url).json("call", "echo", "hi", status=1)
    assert answer["state"] == "failed"
    assert answer["error"] == {"code": "agent_error", "message": "no such\ncity", "data": None}


def test_what_the_gateway_refuses_is_one_line(cli: Cli, fake: Fake) -> None:
    error = {"error": {"code": "unknown_agent", "message": "unknown agent: echo"}}
    fake.routes[CALL] = lambda exchange: exchange.answer(404, error)
    done = cli.at(fake.url).run("call", "echo", "hi", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "agentgw: unknown agent: echo\n"


def test_a_stream_that_breaks_off_is_a_failure(cli: Cli, fake: Fake) -> None:
    def play(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream")
        exchange.event(BASE | {"state": "working"}, "task")

    fake.routes[CALL] = play
    done = cli.at(fake.url).run("call", "echo", "hi")
    assert done.returncode == 1
    assert "still working" in done.stderr


def test_a_question_without_a_terminal_exits_3_and_says_how_to_answer(cli: Cli, fake: Fake) -> None:
    fake.routes[CALL] = turn(end=QUESTION)
    done = cli.at(fake.url).run("call", "echo", "hi")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "Which city?\nto answer: agentgw call echo TEXT --task t1\n"


def test_a_question_with_json_exits_3_and_prints_the_task(cli: Cli, fake: Fake) -> None:
    fake.routes[CALL] = turn(end=QUESTION)
    answer = cli.at(fake.url).json("call", "echo", "hi", status=3)
    assert (answer["state"], answer["task_id"], answer["text"]) == ("input_required", "t1", "")
    assert answer["input_request"] == {
        "kind": "text", "prompt": "Which city?", "parts": [text("Which city?")], "schema": None, "url": None,
    }  # fmt: skip


def test_files_of_the_answer_are_named_and_saved_under_harmless_names(
    cli: Cli, fake: Fake, tmp_path: Path
) -> None:
    evil = {"type": "file", "content": "AAEC", "media_type": "image/png", "name": "../../evil.png"}
    link = {"type": "file", "uri": "https://example.com/x", "media_type": "text/html", "name": "x"}
    artifact = {"type": "artifact", "artifact": {"artifact_id": "a", "parts": [evil, evil, link]}}
    fake.routes[CALL] = turn(artifact, end=DONE)
    done = cli.at(fake.url).run("call", "echo", "hi")
    assert "(image/png, 3 bytes); --output DIR saves it" in done.stderr
    assert "x (text/html): https://example.com/x" in done.stderr
    assert done.stdout == ""
    target = tmp_path / "inner" / "saved"
    cli.at(fake.url).run("call", "echo", "hi", "--output", str(target))
    assert sorted(p.name for p in target.iterdir()) == ["evil-2.png", "evil.png"]
    assert (target / "evil.png").read_bytes() == b"\0\1\2"
    assert not list(tmp_path.glob("*.png"))


def test_data_is_printed_as_json(cli: Cli, fake: Fake) -> None:
    data = {"type": "data", "data": {"a": 1}}
    fake.routes[CALL] = turn(delta("see"), {"type": "message_delta", "parts": [data]}, end=DONE)
    assert cli.at(fake.url).run("call", "echo", "hi").stdout == 'see\n{\n  "a": 1\n}\n'


def test_ctrl_c_cancels_the_task_upstream(cli: Cli, fake: Fake) -> None:
    canceled = threading.Event()

    def play(exchange: Exchange) -> None:
        exchange.head(200, "text/event-stream")
        exchange.event(BASE | {"state": "working"}, "task")
        exchange.event({"seq": 1, "at": "", "event": delta("started")}, "event")
        assert canceled.wait(60)
        exchange.event(BASE | {"state": "canceled"}, "task")

    def cancel(exchange: Exchange) -> None:
        canceled.set()
        exchange.answer(200, BASE | {"state": "canceling"})

    fake.routes[CALL] = play
    fake.routes["POST /api/tasks/t1/cancel"] = cancel
    with cli.at(fake.url).start("call", "echo", "hi") as process:
        assert process.stdout.read(7) == b"started"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"\n"
        assert b"echo: the task is canceled" in process.stderr.read()
    assert process.returncode == 1
    assert len(fake.asked("POST /api/tasks/t1/cancel")) == 1


class Terminal:
    """A command with a terminal for standard input and errors; its stdout is a pipe."""

    def __init__(self, cli: Cli, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = cli.start(*arguments, stdin=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        self.shown = b""

    def expect(self, words: str) -> None:
        """Read what is shown until ``words`` come."""
        while words.encode() not in self.shown:
            self.shown += os.read(self.master, 4096)  # raises at the end, when nothing more can come
        self.shown = self.shown.partition(words.encode())[2]

    def type(self, line: str) -> None:
        os.write(self.master, line.encode())

    def end(self) -> tuple[int, bytes]:
        out = self.process.stdout.read()
        self.process.stdout.close()
        status = self.process.wait(60)
        os.close(self.master)
        return status, out


def test_a_question_is_asked_at_the_terminal_and_answered_in_the_same_task(cli: Cli, fake: Fake) -> None:
    answers = [turn(delta("Hello. "), end=QUESTION), turn(delta("Sunny"), end=DONE)]
    fake.routes[CALL] = lambda exchange: answers.pop(0)(exchange)
    terminal = Terminal(cli.at(fake.url), "call", "echo", "weather")
    terminal.expect("Which city?")
    terminal.expect("> ")
    terminal.type("Paris\n")
    assert terminal.end() == (0, b"Hello. \nSunny\n")
    again = fake.asked(CALL)[1].json
    assert (again["parts"], again["task_id"], again["context_id"]) == ([text("Paris")], "t1", "c1")


def test_a_form_is_asked_field_by_field(cli: Cli, fake: Fake) -> None:
    schema = {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "title": "Size"},
            "colour": {"type": "string", "enum": ["red", "blue"]},
            "gift": {"type": "boolean", "default": False},
            "note": {"type": "string"},
        },
    }
    answers = [turn(end=form(schema)), turn(end=DONE)]
    fake.routes[CALL] = lambda exchange: answers.pop(0)(exchange)
    terminal = Terminal(cli.at(fake.url), "call", "echo", "order")
    for prompt, line in [
        ("Size: ", "big"), ("a whole number", ""), ("Size: ", "4"), ("colour (red, blue; optional): ", "RED"),
        ("gift (yes or no) [no]: ", ""), ("note (optional): ", ""),
    ]:  # fmt: skip
        terminal.expect(prompt)
        if prompt.endswith(": "):
            terminal.type(line + "\n")
    assert terminal.end()[0] == 0
    data = {"size": 4, "colour": "red", "gift": False}
    assert fake.asked(CALL)[1].json["parts"] == [{"type": "data", "data": data}]


def test_no_answer_leaves_the_task_open(cli: Cli, fake: Fake) -> None:
    fake.routes[CALL] = turn(end=QUESTION)
    terminal = Terminal(cli.at(fake.url), "call", "echo", "hi")
    terminal.expect("> ")
    terminal.type("\x04")
    terminal.expect("to answer: agentgw call echo TEXT --task t1")
    assert terminal.end()[0] == 3
    assert len(fake.asked(CALL)) == 1


def test_ctrl_c_at_the_question_cancels(cli: Cli, fake: Fake) -> None:
    fake.routes[CALL] = turn(end=QUESTION)
    fake.routes["POST /api/tasks/t1/cancel"] = lambda exchange: exchange.answer(200, BASE)
    terminal = Terminal(cli.at(fake.url), "call", "echo", "hi")
    terminal.expect("> ")
    terminal.process.send_signal(signal.SIGINT)
    terminal.expect("echo: canceled")
    assert terminal.end()[0] == 1
    assert len(fake.asked("POST /api/tasks/t1/cancel")) == 1


def test_control_characters_of_an_agent_reach_pipes_only(cli: Cli, fake: Fake, tmp_path: Path) -> None:
    fake.routes[CALL] = turn(delta("\x1b[31mred"), end=DONE)
    assert cli.at(fake.url).run("call", "echo", "hi").stdout == "\x1b[31mred\n"
    master, slave = pty.openpty()
    with cli.at(fake.url).start("call", "echo", "hi", stdout=slave) as process:
        process.wait()
        assert b"\x1b[31m" not in (shown := os.read(master, 4096))
        assert b"[31mred" in shown
    os.close(slave)
    os.close(master)


def test_the_answer_is_json_even_when_it_is_strange(cli: Cli, fake: Fake) -> None:
    end = DONE | {"messages": [message(text("\u2028\x00 \ud83d\ude00"))]}
    fake.routes[CALL] = turn(end=json.loads(json.dumps(end)))
    assert cli.at(fake.url).json("call", "echo", "hi")["text"] == "\u2028\x00 \U0001f600"


def test_without_a_gateway_only_the_agent_that_is_called_is_started(cli: Cli, tmp_path: Path) -> None:
    started = tmp_path / "started"
    command = ["sh", "-c", f"touch {started}"]
    assert cli.run("agents", "add", "other", "--protocol", "mcp", "--", *command).returncode == 0
    away = ["agents", "add", "away", "http://127.0.0.1:1", "--protocol", "a2a"]
    assert cli.run(*away).returncode == 0
    started.unlink()
    called = cli.run("call", "away", "hi")
    assert (called.returncode, called.stdout) == (1, "") and "reached" in called.stderr
    assert not started.exists()
