"""Which worker has what: every worker comes to the same answer."""

import tempfile
import uuid
from collections import Counter

import pytest

from agentgw.gateway.homes import TABLE_BYTES, Homes


@pytest.fixture
def table():
    with tempfile.TemporaryFile() as file:
        file.truncate(TABLE_BYTES)
        yield file.fileno()


def workers(count, table):
    return [Homes(number, count, table, b"key") for number in range(count)]


@pytest.mark.parametrize("count", [2, 3, 16, 128])
def test_what_a_worker_makes_has_its_home_there(count, table):
    everyone = workers(count, table)
    for maker in everyone:
        made = [maker.new() for _ in range(20)]
        assert len(set(made)) == 20
        for id in made:
            parsed = uuid.UUID(id)
            assert (parsed.version, parsed.variant, str(parsed)) == (4, uuid.RFC_4122, id)
            assert {other.of(id) for other in (everyone[0], everyone[-1], maker)} == {maker.number}
            assert maker.here(id)


def test_other_texts_keep_all_but_their_end(table):
    _, second = workers(2, table)
    made = second.new("a-token_of-some_kind-0123456789")
    assert made[:-12] == "a-token_of-some_kind-0123456789"[:-12]
    assert second.here(made)


def test_what_comes_from_elsewhere_is_spread(table):
    first, second = workers(2, table)
    ids = [f"task-{number}" for number in range(1000)]
    homes = Counter(map(first.of, ids))
    assert homes == Counter(map(second.of, ids))
    assert 400 < homes[0] < 600


@pytest.mark.parametrize("id", ["conversation-20260728001", "-00000000001", "task+00000000000"])
def test_a_sign_before_the_last_digits_is_no_workers_number(table, id):
    first, second = workers(2, table)
    assert first.of(id) == second.of(id) in (0, 1)
    second.claim(id)
    assert first.of(id) == 1


def test_the_first_to_claim_has_it(table):
    first, second, third = workers(3, table)
    for number in range(100):
        id = f"Task-{number}"
        second.claim(id)
        third.claim(id)
        first.claim(id)
        assert {h.of(id) for h in (first, second, third)} == {1}
        assert first.of(id.lower()) == 1


def test_what_a_worker_has_made_nobody_claims(table):
    first, second = workers(2, table)
    made = first.new()
    second.claim(made)
    assert second.of(made) == 0
    other = Homes(0, 2, table, b"another start").new()
    second.claim(other)
    assert first.of(other) == 1


def test_a_full_table_goes_on(table):
    first, second = workers(2, table)
    for number in range(20_000):
        second.claim(f"id-{number}")
    assert sum(first.of(f"id-{number}") == 1 for number in range(20_000)) > 19_900


def test_one_process_has_everything():
    alone = Homes()
    assert uuid.UUID(alone.new()).version == 4
    assert alone.new("token") == "token"
    alone.claim("x")
    assert alone.here("x") and alone.here(alone.new())


def test_the_owner_has_nothing(table):
    owner, worker = Homes(-1, 2, table, b"key"), Homes(1, 2, table, b"key")
    ids = [owner.new() for _ in range(50)]
    for id in ids:
        owner.claim(id)
    assert not any(map(owner.here, ids))
    worker.claim("x")
    assert owner.of("x") == 1
