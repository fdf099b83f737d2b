"""Conditions: what they ask of an event's data, and which of them are refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcasts.conditions import MOST, Operator, holds, in_words, leaves, problem_of

DATA = {
    "name": "Oat milk",
    "count": 3,
    "price": 1.5,
    "frozen": False,
    "expires_at": "2030-01-31T12:00:00+00:00",
    "place": {"name": "Cellar", "shelf": None},
    "tags": ["vegan", 7],
    "items": [{"sku": "a-1"}, {"sku": "a-2"}],
}


def condition(field: str, operator: str, value: Any = None) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


@pytest.mark.parametrize(
    ("field", "operator", "value"),
    [
        ("name", "equals", "Oat milk"),
        ("count", "equals", 3),
        ("count", "equals", "3"),
        ("price", "equals", "1.50"),
        ("frozen", "equals", False),
        ("frozen", "equals", "false"),
        ("place.name", "equals", "Cellar"),
        ("items.1.sku", "equals", "a-2"),
        ("name", "not", "oat milk"),
        ("nothing", "not", "x"),
        ("name", "contains", "milk"),
        ("tags", "contains", "vegan"),
        ("tags", "contains", "7"),
        ("count", "greater", "2"),
        ("count", "less", 3.5),
        ("expires_at", "less", "2030-02-01"),
        ("expires_at", "greater", "2030-01-31T12:30:00+01:00"),
        ("count", "in", ["1", "3"]),
        ("name", "in", ["Oat milk", "Rye"]),
        ("frozen", "exists", None),
        ("place", "exists", ""),
    ],
)
def test_it_holds(field: str, operator: str, value: Any) -> None:
    assert holds(condition(field, operator, value), DATA)


@pytest.mark.parametrize(
    ("field", "operator", "value"),
    [
        ("count", "equals", True),
        ("name", "equals", "Oat"),
        ("nothing", "equals", "x"),
        ("place", "equals", "Cellar"),
        ("frozen", "not", "false"),
        ("name", "contains", "Milk"),
        ("count", "contains", "3"),
        ("count", "greater", 3),
        ("name", "greater", 2),
        ("expires_at", "greater", 5),
        ("nothing", "less", 5),
        ("count", "in", ["1", "33"]),
        ("nothing", "exists", None),
        ("place.shelf", "exists", None),
        ("items.2.sku", "exists", None),
        ("name.0", "exists", None),
    ],
)
def test_it_does_not_hold(field: str, operator: str, value: Any) -> None:
    assert not holds(condition(field, operator, value), DATA)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("count > 3", "Conditions are a list"),
        (["count"], "Conditions are a list"),
        ([condition("", "equals", 1)], "Condition 1: “” is no field"),
        ([condition("a b", "equals", 1)], "is no field"),
        ([condition("a.b c", "equals", 1)], "is no field"),
        ([condition("a", "like", 1)], "“like” is no operator: choose one of equals, not"),
        ([condition("a", "equals", "")], "Write a value"),
        ([condition("a", "equals", [1])], "Write a value"),
        ([condition("a", "equals", float("nan"))], "Write a value"),
        ([condition("a", "equals", "x" * 1_001)], "Write a value"),
        ([condition("a", "greater", "many")], "“many” is neither a number nor a moment"),
        ([condition("a", "less", value=True)], "neither a number nor a moment"),
        ([condition("a", "in", "1, 2")], "takes a list"),
        ([condition("a", "in", [])], "takes a list"),
        ([condition("a", "exists", "yes")], "takes no value"),
        ([condition("a", "exists") | {"or": 1}], "or: it has a field"),
        ([condition("a", "exists")] * (MOST + 1), "At most 20 conditions"),
        ([condition("a", "exists"), condition("b", "less", "x")], "Condition 2: “x”"),
    ],
)
def test_what_is_no_condition_is_refused_in_words(wrong: Any, words: str) -> None:
    assert words in problem_of(wrong)


def test_none_at_all_and_good_ones_are_accepted() -> None:
    assert not problem_of([])
    assert not problem_of(
        [condition("a.b-c.0", "greater", "2030-01-31"), {"field": "a", "operator": "exists"}]
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
)


@given(JSON, JSON, st.sampled_from(Operator.values))
def test_any_value_is_compared_with_any_other_or_refused(actual: Any, value: Any, of: str) -> None:
    one = condition("a", of, value)
    if not problem_of([one]):
        assert holds(one, {"a": actual}) in (True, False)
        assert in_words(one)


def test_fields_are_the_paths_of_what_a_text_can_show() -> None:
    assert dict(leaves(DATA)) == {
        "name": "Oat milk",
        "count": 3,
        "price": 1.5,
        "frozen": False,
        "expires_at": "2030-01-31T12:00:00+00:00",
        "place.name": "Cellar",
        "place.shelf": None,
        "tags": ["vegan", 7],
        "items.0.sku": "a-1",
        "items.1.sku": "a-2",
    }
