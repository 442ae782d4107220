"""What documents that are alike say is what each of them says by itself."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgw.gateway.alike import Alike


class Said(msgspec.Struct):
    text: msgspec.Raw
    name: str = ""


_said = msgspec.json.Decoder(Said)


class Finding:
    """Counts how often a document is looked into."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, document: bytes) -> tuple[msgspec.Raw, str]:
        self.asked += 1
        said = _said.decode(document)
        return said.text, said.name


TEXTS = st.text(alphabet='a"\\n\u2028\xe9{}:,', max_size=3)
DOCUMENTS = st.builds(
    lambda text, name, ascii, last: json.dumps(
        {"name": name, "text": text} if last else {"text": text, "name": name}, ensure_ascii=ascii
    ).encode(),
    TEXTS | st.none(),
    st.sampled_from(["", "a", "b", '","text":"a'], ),
    st.booleans(),
    st.booleans(),
)  # fmt: skip
BROKEN = st.builds(lambda document, at: document[:at] + document[at + 1 :], DOCUMENTS, st.integers(0, 12))


@given(st.lists(DOCUMENTS | DOCUMENTS | BROKEN, max_size=8))
def test_documents_say_what_they_say_alone(documents: list[bytes]) -> None:
    alike = Alike(Finding())
    for document in documents:
        alone = Alike(Finding())
        try:
            wanted = alone.read(document), alone.rest
        except ValueError:
            with pytest.raises(ValueError):
                alike.read(document)
        else:
            assert (alike.read(document), alike.rest) == wanted


def test_what_is_alike_is_not_looked_into() -> None:
    finding = Finding()
    alike = Alike(finding)
    texts = ["one", "two", 'say "three"', "", "f\u00fcnf"]
    assert [alike.read(json.dumps({"text": text, "name": "n"}).encode()) for text in texts] == texts
    assert (finding.asked, alike.rest) == (1, "n")


@pytest.mark.parametrize("document", [b'{"text":"n","name":"n"}', b'{"name":"n","text":"n"}'])
def test_a_string_that_stands_there_twice_is_not_taken_for_the_other(document: bytes) -> None:
    alike = Alike(Finding())
    for name in ("n", "m", "n", "o"):
        assert alike.read(document.replace(b'"name":"n"', b'"name":"%b"' % name.encode())) == "n"
        assert alike.rest == name
