"""Real recorded answers, where there are any: each maps to canonical records or to its error."""

import re
from pathlib import Path
from typing import Any

import orjson
import pytest

from providers.adapter import StreamFault
from providers.adapters.manifest import ManifestAdapter
from providers.call import Answer, Call, Outcome, Upstream, Verdict
from providers.catalogue import read_document
from providers.catalogue.documents import FOLDER
from providers.operations import registry

RECORDINGS = Path(__file__).parents[4] / "../shared/recordings"
USD = {"base": "USD", "quote": "EUR"}
PLACE = {"lat": 51.51, "lon": -0.13}


def recorded(slug: str, path: str, params: dict[str, Any], at: str = "") -> Answer | Outcome:
    """What the recording at `path` comes to. `at`: the provider's own folder, if not the slug."""
    operation = re.split("--", Path(path).name)[0]
    category = operation.partition(".")[0]
    recording = orjson.loads((RECORDINGS / category / (at or slug) / f"{path}.json").read_bytes())
    response = recording["response"]
    manifest = read_document(FOLDER / f"{slug}.yaml").manifest
    assert manifest
    adapter = ManifestAdapter(manifest)
    headers = {"content-type": response["content_type"]}
    outcome = adapter.outcome(response["status"], headers, orjson.dumps(response["body"]))
    if not outcome.is_answer:
        return outcome
    try:
        answer = adapter.meter(Call(operation, params), Upstream(slug, manifest.base_url)).whole(
            outcome, b""
        )
    except StreamFault as error:
        return error.outcome
    items = answer.data if isinstance(answer.data, list) else [answer.data]
    assert all(registry()[operation].takes(item) for item in items)
    return answer


@pytest.mark.parametrize(
    ("slug", "path", "params", "expected"),
    [
        (
            "alpha-vantage",
            "finance.quote--success",
            {"symbol": "MSFT"},
            {
                "symbol": "MSFT",
                "price": "112.1300",
                "change_percent": "-0.5852",
                "volume": "29062853",
            },
        ),
        (
            "alpha-vantage",
            "finance.fx_rate--success",
            {"base": "BTC", "quote": "CNY"},
            {"rate": "109631.43060700", "as_of": "2017-12-20T19:23:21Z"},
        ),
        (
            "currencylayer",
            "finance.fx_rate--success",
            USD,
            {"rate": "0.726804", "base": "USD", "quote": "EUR"},
        ),
        ("currencylayer", "finance.fx_rate--historical", USD, {"rate": "0.894203"}),
        (
            "fixer",
            "finance.fx_rate--success",
            {"base": "EUR", "quote": "SEK"},
            {"rate": "9.4903", "as_of": "2016-08-26T00:00:00Z"},
        ),
        (
            "fixer",
            "finance.fx_rate--historical",
            {"base": "USD", "quote": "SEK"},
            {"rate": "8.4757"},
        ),
        (
            "openweathermap",
            "weather.current--metric-fr",
            PLACE,
            {
                "temperature_c": 13.67,
                "condition": {"code": "lightrainshowers", "text": "Petites averses"},
                "is_day": True,
            },
        ),
    ],
)
def test_single_answers(
    slug: str, path: str, params: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = recorded(slug, path, params)
    assert isinstance(answer, Answer)
    assert expected.items() <= answer.data.items()


@pytest.mark.parametrize(
    ("slug", "path", "count", "first"),
    [
        ("nominatim", "geo.geocode--success", 1, {"lat": 40.7504928941818}),
        (
            "nominatim",
            "geo.geocode--success-2",
            1,
            {"postcode": "50667", "country_code": "DE", "street": "Domkloster"},
        ),
        (
            "nominatim",
            "geo.geocode--success-single",
            1,
            {"city": "Ottawa", "bbox": [-76.3555857, 44.9617738, -75.2465783, 45.5376502]},
        ),
        ("nominatim", "geo.geocode--empty", 0, {}),
        (
            "photon",
            "geo.geocode--success",
            1,
            {"name": "Madison Square Garden", "osm_id": "138141251"},
        ),
        ("photon", "geo.geocode--empty", 0, {}),
        (
            "opencage",
            "geo.geocode--success",
            1,
            {"postcode": "10011", "house_number": "46", "confidence": 1.0},
        ),
        ("opencage", "geo.geocode--empty", 0, {}),
        ("locationiq", "geo.geocode--success", 1, {"lon": -73.993466492276}),
        (
            "open-meteo-geocoding",
            "geo.geocode--hollywood",
            10,
            {"country_code": "US", "postcode": "33019"},
        ),
    ],
)
def test_places(slug: str, path: str, count: int, first: dict[str, Any]) -> None:
    answer = recorded(slug, path, {"q": "x"}, "open-meteo" if slug.startswith("open-meteo") else "")
    assert isinstance(answer, Answer)
    assert len(answer.data) == count
    assert first.items() <= (answer.data[0] if count else {}).items()


def test_a_shortened_label_maps_what_is_left_of_it() -> None:
    answer = recorded("openfda", "medical.drug_label--keytruda", {"q": "Keytruda"})
    assert isinstance(answer, Answer)
    assert answer.data[0]["brand_name"] == "KEYTRUDA QLEX"
    assert answer.page == {"total": 2, "limit": 10, "next_cursor": None}


def test_nothing_found_is_an_answer() -> None:
    answer = recorded("openfda", "medical.drug_label--empty-510k-not-found", {"q": "x"})
    assert isinstance(answer, Answer)
    assert answer.data == []


@pytest.mark.parametrize(
    ("slug", "path", "verdict"),
    [
        ("fixer", "finance.fx_rate--error", Verdict.BLOCKED),
        ("currencylayer", "finance.fx_rate--error", Verdict.AUTH),
        ("openweathermap", "weather.current--error-access-denied", Verdict.AUTH),
        ("openweathermap", "weather.history--error-out-of-range", Verdict.INVALID_REQUEST),
        ("opencage", "geo.geocode--error-invalid-key", Verdict.AUTH),
        ("opencage", "geo.geocode--error-over-limit", Verdict.QUOTA_EXHAUSTED),
        ("opencage", "geo.geocode--error-invalid-request", Verdict.INVALID_REQUEST),
        ("locationiq", "geo.geocode--error-invalid-key", Verdict.AUTH),
        ("locationiq", "geo.geocode--error-over-limit", Verdict.RATE_LIMITED),
        ("locationiq", "geo.geocode--error-request-denied", Verdict.AUTH),
    ],
)
def test_errors(slug: str, path: str, verdict: Verdict) -> None:
    outcome = recorded(slug, path, {"q": "x", **USD, **PLACE})
    assert isinstance(outcome, Outcome)
    assert outcome.verdict is verdict


def test_an_answer_of_another_operation_is_a_bad_payload() -> None:
    outcome = recorded("openfda", "medical.drug_label--drugsfda-imatinib", {"q": "imatinib"})
    assert isinstance(outcome, Outcome)
    assert outcome.verdict is Verdict.BAD_PAYLOAD
