"""``agentgw agents`` against a gateway that is played by the test."""

from __future__ import annotations

import os
from typing import Any

Cli = Any
Fake = Any

ECHO = {
    "name": "echo", "protocol": "acp", "target": "http://127.0.0.1:1", "enabled": True, "health": "ok",
    "description": "says it back", "skills": [{"id": "say", "name": "Say", "description": "Says it."}],
}  # fmt: skip
CALC = {
    "name": "calc", "protocol": "mcp", "target": "python calc.py", "enabled": False, "health": "unknown",
    "description": "", "skills": [], "detail": "not checked yet",
}  # fmt: skip


def test_list_is_an_array_in_json_and_a_table_for_people(cli: Cli, fake: Fake) -> None:
    fake.routes["GET /api/agents"] = lambda exchange: exchange.answer(200, [CALC, ECHO])
    there = cli.at(fake.url)
    listed = there.json("agents", "list")
    assert [a["name"] for a in listed] == ["calc", "echo"]
    assert set(listed[0]) >= {"name", "protocol", "target", "enabled", "health", "description", "skills"}
    assert there.run("agents", "list").stdout == (
        "NAME  PROTOCOL  HEALTH    SKILLS  TARGET\n"
        "calc  mcp       disabled  0       python calc.py\n"
        "echo  acp       ok        1       http://127.0.0.1:1\n"
    )


def test_health_of_long_ago_says_so(cli: Cli, fake: Fake) -> None:
    old = ECHO | {"checked_at": "2020-01-02T03:04:05Z"}
    fake.routes["GET /api/agents"] = lambda exchange: exchange.answer(200, [old])
    listed = cli.at(fake.url).run("agents", "list")
    assert "2020-01-02T03:04:05Z" in listed.stderr and "agents check" in listed.stderr
    assert "2020" not in listed.stdout
    assert cli.at(fake.url).run("agents", "list", "--json").stderr == ""


def test_show(cli: Cli, fake: Fake) -> None:
    fake.routes["GET /api/agents/echo"] = lambda exchange: exchange.answer(200, ECHO)
    assert cli.at(fake.url).json("agents", "show", "echo")["skills"][0]["id"] == "say"
    assert cli.at(fake.url).run("agents", "show", "echo").stdout == (
        "echo\n"
        "  protocol:     acp\n"
        "  target:       http://127.0.0.1:1\n"
        "  enabled:      yes\n"
        "  health:       ok\n"
        "  description:  says it back\n"
        "  skills:\n"
        "    say  Says it.\n"
    )


def test_add_a_url(cli: Cli, fake: Fake) -> None:
    added = {"agents": [ECHO], "warnings": ["it is slow"]}
    fake.routes["POST /api/agents"] = lambda exchange: exchange.answer(201, added)
    done = cli.at(fake.url).run(
        "agents", "add", "echo", "http://127.0.0.1:1", "--protocol", "acp",
        "--header", "Authorization: Bearer ${T}", "--header", "X-A:b",
        "--remote", "Echo Agent", "--replace", "--description", "mine",
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == "added echo (acp): 1 skill, health ok\n"
    assert done.stderr == "warning: it is slow\n"
    assert fake.asked("POST /api/agents")[0].json == {
        "name": "echo", "url": "http://127.0.0.1:1", "command": [], "protocol": "acp", "remote": "Echo Agent",
        "all": False, "headers": {"Authorization": "Bearer ${T}", "X-A": "b"}, "env": {}, "cwd": None,
        "description": "mine", "replace": True, "oauth": None,
    }  # fmt: skip


def test_add_with_client_credentials(cli: Cli, fake: Fake) -> None:
    fake.routes["POST /api/agents"] = lambda exchange: exchange.answer(201, {"agents": [ECHO]})
    words = ["agents", "add", "echo", "http://127.0.0.1:1", "--oauth-client-id", "me"]
    done = cli.at(fake.url).run(
        *words, "--oauth-token-url", "https://login.example/token", "--oauth-client-secret", "${SECRET}",
        "--oauth-scope", "a b", "--oauth-audience", "agents", "--oauth-post",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert fake.asked("POST /api/agents")[0].json["oauth"] == {
        "token_url": "https://login.example/token", "client_id": "me", "client_secret": "${SECRET}",
        "scope": "a b", "audience": "agents", "method": "client_secret_post",
    }  # fmt: skip
    wrong = cli.at(fake.url).run(*words)
    assert wrong.returncode == 2 and "--oauth-token-url" in wrong.stderr


def test_add_all_behind_a_url(cli: Cli, fake: Fake) -> None:
    fake.routes["POST /api/agents"] = lambda exchange: exchange.answer(201, {"agents": [CALC, ECHO]})
    added = cli.at(fake.url).json("agents", "add", "http://127.0.0.1:1", "--all")
    assert [a["name"] for a in added] == ["calc", "echo"]
    sent = fake.asked("POST /api/agents")[0].json
    assert (sent["name"], sent["url"], sent["all"]) == (None, "http://127.0.0.1:1", True)


def test_everything_after_the_dashes_is_the_command_untouched(cli: Cli, fake: Fake) -> None:
    fake.routes["POST /api/agents"] = lambda exchange: exchange.answer(201, {"agents": [CALC]})
    command = ["python", "-m", "x", "--json", "--help", "--", "a b", "$HOME", ""]
    added = cli.at(fake.url).run("agents", "add", "calc", "--env", "A=b=c", "--json", "--", *command)
    assert added.returncode == 0, added.stderr
    sent = fake.asked("POST /api/agents")[0].json
    assert sent["command"] == command
    assert sent["env"] == {"A": "b=c"}
    assert sent["cwd"] == os.getcwd()  # a command runs where it was registered
    assert sent["url"] is None


def test_options_may_stand_before_the_name(cli: Cli, fake: Fake) -> None:
    fake.routes["POST /api/agents"] = lambda exchange: exchange.answer(201, {"agents": [CALC]})
    done = cli.at(fake.url).run("agents", "add", "--cwd", "/", "calc", "--", "python")
    assert done.returncode == 0, done.stderr
    assert fake.asked("POST /api/agents")[0].json["cwd"] == "/"


def test_check_exits_1_when_an_agent_is_down(cli: Cli, fake: Fake) -> None:
    down = ECHO | {"health": "down", "detail": "connection refused"}
    fake.routes["POST /api/agents/echo/check"] = lambda exchange: exchange.answer(200, down)
    done = cli.at(fake.url).run("agents", "check", "echo")
    assert done.returncode == 1
    assert done.stdout == "echo (acp): 1 skill, health down (connection refused)\n"
    assert cli.at(fake.url).json("agents", "check", "echo", status=1)["health"] == "down"


def test_check_without_a_name_checks_all_and_minds_only_the_enabled(cli: Cli, fake: Fake) -> None:
    fake.routes["GET /api/agents"] = lambda exchange: exchange.answer(200, [CALC, ECHO])
    fake.routes["POST /api/agents/echo/check"] = lambda exchange: exchange.answer(200, ECHO)
    fake.routes["POST /api/agents/calc/check"] = lambda exchange: exchange.answer(200, CALC)
    assert [a["name"] for a in cli.at(fake.url).json("agents", "check")] == ["calc", "echo"]


def test_enable_disable_remove(cli: Cli, fake: Fake) -> None:
    there = cli.at(fake.url)
    fake.routes["POST /api/agents/echo/enable"] = lambda exchange: exchange.answer(200, ECHO)
    fake.routes["POST /api/agents/echo/disable"] = lambda exchange: exchange.answer(200, ECHO)
    fake.routes["DELETE /api/agents/echo"] = lambda exchange: exchange.answer(204)
    assert there.run("agents", "enable", "echo").stdout == "echo is enabled\n"
    assert there.run("agents", "disable", "echo").stdout == "echo is disabled\n"
    assert there.run("agents", "remove", "echo").stdout == "removed echo\n"
    assert there.json("agents", "remove", "echo") == {"name": "echo", "removed": True}


def test_the_gateway_s_words_are_the_error(cli: Cli, fake: Fake) -> None:
    taken = {"code": "invalid_request", "message": "echo is taken: use --replace"}
    answer = {"error": taken | {"data": {"name": "echo", "reason": "name_taken"}}}
    fake.routes["POST /api/agents"] = lambda exchange: exchange.answer(409, answer)
    done = cli.at(fake.url).run("agents", "add", "echo", "http://127.0.0.1:1", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "agentgw: echo is taken: use --replace\n"


def test_an_agent_s_words_stay_on_their_line(cli: Cli, fake: Fake) -> None:
    sly = ECHO | {"target": "http://x\n\x1b[2Jfake  row"}
    fake.routes["GET /api/agents"] = lambda exchange: exchange.answer(200, [sly])
    shown = cli.at(fake.url).run("agents", "list").stdout
    assert len(shown.splitlines()) == 2
    assert "\x1b" not in shown
