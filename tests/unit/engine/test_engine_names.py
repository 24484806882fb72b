"""Names of containers."""

from __future__ import annotations

import pytest

from windlass.engine.ids import new_id, short_id
from windlass.engine.names import NameRegistry
from windlass.errors import Conflict, InvalidParameter


def test_a_name_has_one_owner_until_it_is_released() -> None:
    names = NameRegistry()
    assert names.reserve("/web", "a" * 64) == "web"
    assert names.reserve("web", "a" * 64) == "web"
    with pytest.raises(Conflict) as refused:
        names.reserve("web", "b" * 64)
    assert str(refused.value) == (
        f'Conflict. The container name "/web" is already in use by container "{"a" * 64}". '
        "You have to remove (or rename) that container to be able to reuse that name."
    )
    names.release("web", "b" * 64)
    assert names.owner("/web") == "a" * 64
    names.release("web", "a" * 64)
    assert names.owner("web") is None


@pytest.mark.parametrize("name", ["", "a", "-web", "a b", "a/b", "é" * 3, "web\n", "/"])
def test_names_that_are_not_allowed(name: str) -> None:
    with pytest.raises(InvalidParameter, match=r"only \[a-zA-Z0-9\]\[a-zA-Z0-9_.-\] are allowed"):
        NameRegistry().reserve(name, "a" * 64)


def test_random_names_are_readable_and_distinct() -> None:
    names = NameRegistry()
    given = {names.reserve_random(new_id()) for _ in range(500)}
    assert len(given) == 500
    assert all(name.islower() for name in given)


def test_a_short_id_is_never_a_number() -> None:
    assert not any(short_id(new_id()).isdecimal() for _ in range(1000))
