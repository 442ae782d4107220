from typing import Any

import pytest

from agentgw.adapters.mcp.face.claims import claims_other, claims_post

MINE: list[dict[str, Any]] = [
    {},  # no method: an answer of a client, a batch, or nothing that can be read
    {"result": {}, "id": 1},
    {"method": "initialize"},
    {"method": "ping"},
    {"method": "notifications/initialized"},
    {"method": "tools/call"},
    {"method": "server/discover"},
    {"method": "logging/setLevel"},
    {"method": "completion/complete"},
    {"method": "tasks/get", "params": {"taskId": "1"}},
    {"method": "tasks/cancel", "params": {"taskId": "1"}},
    {"method": "tasks/update", "params": {"taskId": "1"}},
]
OTHERS: list[dict[str, Any]] = [
    {"method": "SendMessage"},
    {"method": "message/send"},
    {"method": "message/stream"},
    {"method": "tasks/get", "params": {"id": "1"}},
    {"method": "tasks/cancel", "params": {"id": "1"}},
    {"method": "tasks/get"},
    {"method": "tasks/resubscribe"},
    {"method": "tasks/pushNotificationConfig/set"},
    {"method": "agent/getAuthenticatedExtendedCard"},
    {"method": 1},
]


@pytest.mark.parametrize("envelope", MINE)
def test_mcp(envelope: dict[str, Any]) -> None:
    assert claims_post(False, envelope)


@pytest.mark.parametrize("envelope", OTHERS)
def test_not_mcp(envelope: dict[str, Any]) -> None:
    assert not claims_post(False, envelope)


def test_its_own_headers_decide_alone() -> None:
    assert claims_post(True, {"method": "message/send"})


def test_other_methods() -> None:
    assert claims_other("DELETE", None)
    assert claims_other("GET", "text/event-stream")
    assert not claims_other("GET", "text/html,*/*")
    assert not claims_other("PUT", "text/event-stream")
