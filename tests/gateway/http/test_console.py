"""The page in a browser, with agents that say of themselves what would be code in it."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from agentgw.gateway.control import AgentInfo
from agentgw.gateway.http import console
from agentgw.gateway.model import Skill

EVIL = [
    '<script>alert("x")</script>',
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "</td></table></style><style>*{display:none}</style>",
    "<!--", "]]>", "&lt;script&gt;", "javascript:alert(1)", "\x00<svg/onload=alert(1)>", "<a href=//evil>x",
]  # fmt: skip


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)


def tags(page: str) -> Tags:
    found = Tags()
    found.feed(page)
    found.close()
    return found


def agent(text: str, health: str = "ok") -> AgentInfo:
    skills = [Skill(id=text, name=text), Skill(id=text, name="")]
    return AgentInfo(
        name=text, protocol=text, target=text, enabled=True, health=health, description=text, skills=skills,
        detail=text, version=text, remote=text,
    )  # fmt: skip


@pytest.mark.parametrize("text", EVIL)
def test_what_an_agent_says_is_text_and_nothing_else(text: str) -> None:
    plain = tags(console.page([agent("plain")], "http://gw"))
    shown = tags(console.page([agent(text)], f"http://{text}"))
    assert shown.found == plain.found
    assert text.replace("\x00", "") in shown.text.replace("\x00", "").replace("\ufffd", "")
    broken = tags(console.page([agent("plain", health=text)], "http://gw"))
    assert [(tag, [name for name, _ in attributes]) for tag, attributes in broken.found] == [
        (tag, [name for name, _ in attributes]) for tag, attributes in plain.found
    ]


def test_the_policy_forbids_what_would_slip_through() -> None:
    policy = dict(
        directive.split(" ", 1) for directive in console.HEADERS["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["style-src"].startswith("'sha256-")
    assert set(policy) == {"default-src", "style-src", "base-uri", "form-action", "frame-ancestors"}
    assert console.HEADERS["X-Content-Type-Options"] == "nosniff"
    assert console.HEADERS["Referrer-Policy"] == "no-referrer"
    page = console.page([agent("x")], "http://gw")
    assert "<script" not in page and " style=" not in page and "http-equiv" not in page
