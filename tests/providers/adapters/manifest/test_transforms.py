"""The closed list of transforms: each one's promise, and that none fails in another way."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from providers.adapters.manifest.transforms import (
    NAMES,
    ArgumentError,
    TransformError,
    compile_steps,
)

TABLES = {"t": {"1": "one", "x": {"a": 1}, "true": "yes"}}
ARGUMENTS: dict[str, Any] = {
    "unit": "f_to_c",
    "scale": 0.1,
    "round": 2,
    "format": "%Y%m%d",
    "format_day": "%b %d, %Y",
    "write_day": "%d/%b/%Y",
    "split": {"by": ",", "part": 0},
    "before": ["(", "["],
    "between": ["(", ")"],
    "prefix": "https://x.example/",
    "join": ", ",
    "slice": [0, 3],
    "collect_numbered": {"prefix": "s", "count": 3},
    "at_key": "{base}{quote}",
    "null_if": ["N/A", ".", ""],
    "equals": 1,
    "index": {"key": "a", "value": "b"},
    "pick_by": "a",
    "lookup": "t",
    "each": "number",
}
PARAMS = {"base": "USD", "quote": "EUR"}


def run(steps: Any, value: Any) -> Any:
    return compile_steps(steps, TABLES)(value, PARAMS)


@pytest.mark.parametrize(
    ("steps", "value", "result"),
    [
        ("decimal", "112.6300", "112.6300"),
        ("decimal", 1.5e-7, "0.00000015"),
        ("decimal", 0.1, "0.1"),
        ("decimal", -0.0, "0.0"),
        ("decimal", "+5", "5"),
        ("decimal", 41230110, "41230110"),
        ("percent", "-0.5852%", "-0.5852"),
        ("number", "59.3251172", 59.3251172),
        ("number", "7", 7),
        ("number", 3.5, 3.5),
        ("int", "12", 12),
        ("int", 12.0, 12),
        ("int", 2**53 - 1, 2**53 - 1),
        ("number", "99999999999999999999", 1e20),
        ({"unit": "f_to_c"}, 212, 100.0),
        ({"unit": "k_to_c"}, 273.15, 0.0),
        ({"unit": "kph_to_mps"}, 36, 10.0),
        ({"unit": "mph_to_mps"}, 10, 4.4704),
        ({"unit": "knots_to_mps"}, 1.943844, 1.0),
        ({"unit": "in_to_mm"}, 2, 50.8),
        ({"unit": "fraction_to_pct"}, 0.25, 25.0),
        ({"scale": 0.1}, 3, 0.3),
        ({"round": 4}, 59.123456, 59.1235),
        ("epoch_s", 1795208401, "2026-11-20T21:00:01Z"),
        ("epoch_s", "1795208401", "2026-11-20T21:00:01Z"),
        ("epoch_ms", 1795208401500, "2026-11-20T21:00:01.500000Z"),
        ("iso", "2026-11-20", "2026-11-20T00:00:00Z"),
        ("iso", "2026-11-20T10:45", "2026-11-20T10:45:00Z"),
        ("iso", "2026-11-20T10:45:00+02:00", "2026-11-20T08:45:00Z"),
        ("iso", "2026-11-20T10:45:00Z", "2026-11-20T10:45:00Z"),
        ("day", "2026-11-20T23:59:00+10:00", "2026-11-20"),
        ({"format": "%Y%m%dT%H%M%SZ"}, "20261120T104500Z", "2026-11-20T10:45:00Z"),
        ({"format_day": "%Y%m%d"}, 20261120, "2026-11-20"),
        ({"format_day": "%b %d, %Y"}, "Mar 05, 2026", "2026-03-05"),
        ({"write_day": "%d/%b/%Y"}, "2026-03-05", "05/Mar/2026"),
        ("text", 10011, "10011"),
        ("trim", "  a \n b ", "a b"),
        ("trim", "  ", None),
        ("strip_html", "<p>A &amp; B<br/>C</p>", "A & B C"),
        ("upper", "se", "SE"),
        ("lower", "SE", "se"),
        ("sentence", "light rain", "Light rain"),
        ({"split": {"by": ",", "part": 1}}, "1, 2", "2"),
        ({"split": {"by": ",", "part": 5}}, "1,2", None),
        ({"split": ","}, "1,2", ["1", "2"]),
        ({"before": ["(", "["]}, "ADVIL (X) [Y]", "ADVIL"),
        ({"before": "("}, "(X)", None),
        ({"between": ["(", ")"]}, "A (B (C), D) (E)", "B (C), D"),
        ({"between": ["(", ")"]}, "A (B", None),
        ({"between": ["|", "|"]}, "A |B| C", "B"),
        ({"prefix": "https://x.example/"}, "p.jpg", "https://x.example/p.jpg"),
        ({"join": ", "}, ["a", None, "", 3], "a, 3"),
        ({"join": ", "}, [], None),
        ({"slice": [-1, None]}, "10d", "d"),
        ({"slice": 4}, "2026-01", "2026"),
        ("entries", {"a": 1}, [{"key": "a", "value": 1}]),
        ("zip", {"a": [1, 2], "b": [3, 4]}, [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
        ("first", [5, 6], 5),
        ("first", [], None),
        ("first", 7, 7),
        (
            {"collect_numbered": {"prefix": "s", "count": 3}},
            {"s1": "a", "s2": "", "s3": "c"},
            ["a", "c"],
        ),
        ({"at_key": "{base}{quote}"}, {"USDEUR": 0.9}, 0.9),
        ({"at_key": "{base}"}, {"EUR": 1}, None),
        ({"null_if": ["N/A", "."]}, "N/A", None),
        ({"null_if": 0}, False, False),
        ({"equals": 1}, 1, True),
        ({"equals": 1}, True, False),
        ({"lookup": "t"}, 1, "one"),
        ({"lookup": "t"}, 1.0, "one"),
        ({"lookup": "t"}, "1", "one"),
        ({"lookup": "t"}, True, "yes"),
        ({"lookup": "t"}, "none", None),
        ({"each": ["number", {"round": 1}]}, ["1.25", None, 2], [1.2, 2]),
        ([{"split": {"by": "_", "part": 0}}, {"lookup": "t"}], "x_day", {"a": 1}),
    ],
)
def test_each_does_what_it_says(steps: Any, value: Any, result: Any) -> None:
    assert run(steps, value) == result
    assert type(run(steps, value)) is type(result)


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        ("decimal", "1,5"),
        ("decimal", "1_000"),
        ("decimal", ""),
        ("decimal", "nan"),
        ("decimal", float("inf")),
        ("decimal", True),
        ("decimal", 1e300),
        ("decimal", "1e-99"),
        ("decimal", "9" * 41),
        ("number", "1e999"),
        ("number", float("nan")),
        ("int", "1.5"),
        ("int", "9007199254740992"),  # some readers of JSON would round it
        ("epoch_s", 1e18),
        ("epoch_s", "soon"),
        ("iso", "yesterday"),
        ("iso", "9999-12-31T23:59:59-10:00"),
        ("iso", "0001-01-01T00:00:00+10:00"),
        ({"format_day": "%Y%m%d"}, "20261340"),
        ({"write_day": "%Y%m%d"}, "2026-02-30"),
        ("upper", 5),
        ("zip", {"a": [1], "b": [1, 2]}),
        ("zip", {"a": 1}),
        ("entries", [1]),
        ({"at_key": "{base}"}, [1]),
        ({"each": "number"}, "abc"),
    ],
)
def test_a_value_that_is_not_as_told_is_an_error(steps: Any, value: Any) -> None:
    with pytest.raises(TransformError):
        run(steps, value)


@pytest.mark.parametrize(
    "steps",
    [
        "nothing",
        {"nothing": 1},
        {"decimal": 1},
        {"unit": "parsec"},
        {"unit": None},
        {"scale": 0},
        {"scale": "2"},
        {"round": -1},
        {"round": True},
        {"format": "%Q"},
        {"split": {"by": ""}},
        {"split": {"by": ",", "part": "0"}},
        {"between": ["("]},
        {"before": []},
        {"slice": ["a", "b"]},
        {"collect_numbered": {"prefix": "s", "count": 10**9}},
        {"collect_numbered": "s"},
        {"at_key": "{"},
        {"lookup": "missing"},
        {"lookup": {}},
        {"each": "nothing"},
        {"a": 1, "b": 2},
        5,
        [["decimal"]],
    ],
)
def test_wrong_arguments_are_found_before_any_call(steps: Any) -> None:
    with pytest.raises(ArgumentError):
        compile_steps(steps, TABLES)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_nothing_stays_nothing(name: str) -> None:
    assert run({name: ARGUMENTS.get(name)}, None) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.sampled_from(sorted(NAMES)), _JSON)
@settings(max_examples=500, deadline=None)
def test_no_value_makes_a_transform_fail_in_another_way(name: str, value: Any) -> None:
    try:
        run({name: ARGUMENTS.get(name)}, value)
    except TransformError as error:
        assert str(value) not in str(error) or len(str(value)) < 4


@given(
    st.decimals(
        allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12
    )
)
@settings(max_examples=100, deadline=None)
def test_decimals_keep_every_digit(value: Any) -> None:
    text = run("decimal", str(value))
    assert re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", text)
    assert type(value)(text) == value


def test_a_table_is_not_changed_by_who_looks_in_it() -> None:
    run({"lookup": "t"}, "x")["a"] = 2
    assert run({"lookup": "t"}, "x") == {"a": 1}
