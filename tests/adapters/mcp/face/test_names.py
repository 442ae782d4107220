import re

from hypothesis import given
from hypothesis import strategies as st

from agentgw.adapters.mcp.face import names


def test_a_fit_name_stays() -> None:
    assert names.qualified("research", "web_search") == "research__web_search"
    assert names.fit("a" * 60) == "a" * 60


def test_a_long_name_is_cut_with_the_hash_of_the_full_one() -> None:
    # printf 'aaaa…(58)__reverse' | sha256sum
    name = names.qualified("a" * 58, "reverse")
    assert len(name) == 60
    assert re.fullmatch(r"a{53}_[0-9a-f]{6}", name)


def test_unfit_characters_are_replaced_and_names_that_then_look_alike_stay_two() -> None:
    one, two = names.fit("x__näme"), names.fit("x__nöme")
    assert one[:-7] == two[:-7] == "x__n_me"
    assert one != two


@given(st.text(min_size=1, max_size=100))
def test_every_name_is_accepted_by_hosts(full: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,60}", names.fit(full))


def test_the_first_separator_ends_the_agents_name() -> None:
    assert names.split("agent__a__b") == ("agent", "a__b")
    assert names.split("agent") is None
    assert names.split("__tool") is None
