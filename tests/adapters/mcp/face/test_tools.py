import base64
from typing import Any

import jsonschema
import pytest

from agentgw.adapters.mcp.face import tools
from agentgw.gateway.model import Agent, Data, File, Health, Record, Skill, Text
from agentgw.gateway.ports import AgentView

from ....support.memory import MemoryUpstream


def view(agent: Agent | None, description: str | None = None) -> AgentView:
    record = Record(name="research", protocol="a2a", url="http://x", description=description)
    return AgentView(record=record, agent=agent, health=Health(), upstream=MemoryUpstream())


def test_everything_in_the_arguments_reaches_the_agent() -> None:
    turn = tools.parse({
        "message": "look",
        "data": {"n": [1, None]},
        "files": [
            {"name": "a.bin", "media_type": "application/x", "data": base64.b64encode(b"\0\xff").decode()},
            {"uri": "https://example.com/b.png", "name": None},
        ],
        "context_id": "c",
        "task_id": "t",
        "skill": "s",
    })  # fmt: skip
    assert turn.message.parts == (
        Text(text="look"),
        Data(data={"n": [1, None]}),
        File(content=b"\0\xff", media_type="application/x", name="a.bin"),
        File(uri="https://example.com/b.png"),
    )
    assert (turn.context_id, turn.task_id, turn.skill) == ("c", "t", "s")


def test_null_and_empty_count_as_absent() -> None:
    turn = tools.parse({"message": "", "data": None, "files": None, "context_id": "", "task_id": None})
    assert turn.empty
    assert (turn.context_id, turn.task_id) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({}, "message is required"),
        ({"message": 1}, "message must be a string"),
        ({"message": "x", "question": "y"}, "unknown argument: question"),
        ({"message": "x", "files": {}}, "files must be an array"),
        ({"message": "x", "files": ["y"]}, "files[0] must be an object"),
        ({"message": "x", "files": [{"name": "y"}]}, "files[0] needs data (base64) or uri"),
        ({"message": "x", "files": [{"data": "", "uri": "y"}]}, "and not both"),
        ({"message": "x", "files": [{"data": "%%"}]}, "files[0].data is not base64"),
        ({"message": "x", "context_id": 5}, "context_id must be a string"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(tools.BadArguments) as caught:
        tools.parse(arguments)
    assert word in str(caught.value)


def test_a_model_can_choose_by_the_definition() -> None:
    skill = Skill(id="dig", name="Digging", description="Finds\nsources", examples=("find x",))
    tool = tools.definition(
        "research", view(Agent(name="Research Agent", description="Reads.", skills=(skill,)))
    )
    assert tool["title"] == "Research Agent"
    assert tool["description"].startswith("Reads.")
    assert '- dig (Digging): Finds sources For example: "find x"' in tool["description"]
    assert tool["inputSchema"]["properties"]["skill"]["enum"] == ["dig"]


def test_the_operators_words_win_and_none_is_no_problem() -> None:
    assert tools.definition("r", view(Agent(name="x", description="own"), "ours"))["description"] == "ours"
    assert "research" in tools.definition("r", view(None))["description"]


def test_the_schema_accepts_what_parse_accepts() -> None:
    schema = tools.definition("r", view(None))["inputSchema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    for good in ({"message": "x"}, {"message": "x", "data": [1], "files": [{"uri": "y"}]}):
        jsonschema.validate(good, schema)
        tools.parse(good)
    for bad in ({}, {"message": "x", "other": 1}, {"message": "x", "files": [{"data": "", "uri": ""}]}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(bad, schema)
