"""A place in an artifact that was told is found again without what was told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.a2a.heard import Heard
from agentgw.gateway.catchup import artifact_news
from agentgw.gateway.lifecycle import Folding
from agentgw.gateway.model import Artifact, ArtifactDelta, Data, Part, Task, Text

texts = st.builds(
    Text,
    text=st.text(alphabet="ab\xe9\u4e16\U0001f600", max_size=4),
    media_type=st.sampled_from([None, None, None, "text/markdown"]),
)
parts: st.SearchStrategy[Part] = texts | st.builds(Data, data=st.integers(0, 2))
pieces = st.lists(st.lists(parts, max_size=3).map(tuple), min_size=1, max_size=4)


def artifact(told: tuple[Part, ...], name: str | None = None) -> Artifact:
    return Artifact(artifact_id="a", parts=told, name=name)


@given(pieces, pieces, st.booleans(), st.sampled_from([None, "other"]))
def test_what_is_new_is_what_a_comparison_with_all_that_was_told_finds(
    told: list[tuple[Part, ...]], later: list[tuple[Part, ...]], grown: bool, name: str | None
) -> None:
    whole, heard = Folding(Task(id="t", context_id="c", agent="x")), Heard()
    for n, piece in enumerate(told):
        event = ArtifactDelta(artifact=artifact(piece), append=n > 0)
        whole.add(event)
        heard.add(event)
    (known,) = whole.task.artifacts
    found = sum(([*told, *later] if grown else later), ())
    new = artifact(found, name)
    assert heard.news(new) == artifact_news(known, new)


def test_an_artifact_that_was_not_told_is_new() -> None:
    new = artifact((Text(text="a"),))
    assert Heard().news(new) == ArtifactDelta(artifact=new)


def test_what_was_told_before_it_began_counts() -> None:
    heard = Heard([artifact((Text(text="one"),))])
    heard.add(ArtifactDelta(artifact=artifact((Text(text=" two"),)), append=True))
    assert heard.news(artifact((Text(text="one two three"),))) == ArtifactDelta(
        artifact=artifact((Text(text=" three"),)), append=True
    )
    assert heard.news(artifact((Text(text="one TWO three"),))) == ArtifactDelta(
        artifact=artifact((Text(text="one TWO three"),))
    )
