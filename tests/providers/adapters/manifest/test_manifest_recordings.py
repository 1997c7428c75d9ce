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
    body, encoding = response["body"], response["body_encoding"]
    raw = body.encode() if encoding == "text" else orjson.dumps(body)
    outcome = adapter.outcome(response["status"], headers, raw)
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
    ("slug", "base", "quote", "rate"),
    [
        ("cnb-cz", "EUR", "CZK", "27.035"),
        ("cnb-cz", "JPY", "CZK", "0.21487"),
        ("cnb-cz", "IDR", "CZK", "0.001798"),
        ("nbr-ro", "XDR", "RON", "5.7432"),
        ("nbr-ro", "HUF", "RON", "0.014356"),
        ("nbu-ua", "IDR", "UAH", "0.00192667"),
        ("cbr-tr", "DKK", "TRY", "0.429835"),
        ("cbr-tr", "JPY", "TRY", "0.0255565"),
    ],
)
def test_central_banks_tell_what_one_unit_is_worth(
    slug: str, base: str, quote: str, rate: str
) -> None:
    answer = recorded(slug, "finance.fx_rate--success", {"base": base, "quote": quote})
    assert isinstance(answer, Answer)
    assert answer.data["rate"] == rate


@pytest.mark.parametrize(
    ("slug", "base", "quote", "days", "last"),
    [
        ("bank-of-england", "GBP", "USD", 4, {"date": "2026-03-20", "rate": "1.3302"}),
        ("bank-of-england", "GBP", "RON", 4, {"date": "2026-03-20", "rate": "5.8721"}),
        ("ecb-data", "EUR", "JPY", 22, {"date": "2026-03-18", "rate": "183.49"}),
    ],
)
def test_of_all_the_currencies_that_are_told_one_is_picked(
    slug: str, base: str, quote: str, days: int, last: dict[str, str]
) -> None:
    params = {"base": base, "quote": quote, "from": "2026-02-17", "to": "2026-03-20"}
    at = "ecb-eurofxref" if slug == "ecb-data" else ""
    answer = recorded(slug, "finance.fx_history--recent", params, at)
    assert isinstance(answer, Answer)
    assert (len(answer.data), answer.data[-1]) == (days, last)


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


IP = {"ip": "8.8.8.8"}
COIN = {"asset": "ZEC", "vs": "LTC"}


@pytest.mark.parametrize(
    ("slug", "path", "params", "at", "expected"),
    [
        (
            "merriam-webster",
            "dictionary.define--banana",
            {"word": "banana"},
            "",
            {"word": "banana"},
        ),
        ("bitstamp", "finance.crypto_price--ticker", COIN, "", {"price": "0.26258"}),
        (
            "coinbase-exchange",
            "finance.crypto_price--ticker",
            COIN,
            "",
            {"price": "145.35", "as_of": "2019-09-10T13:36:29.394000Z"},
        ),
        (
            "gemini-exchange",
            "finance.crypto_price--ticker",
            COIN,
            "",
            {"price": "0.666", "volume_24h": "0"},
        ),
        ("okx", "finance.crypto_price--tickers", COIN, "", {"price": "0.000013"}),
        ("coingecko", "finance.crypto_price--market-data", COIN, "", {"price": "49053"}),
        (
            "exchangeratesapi",
            "finance.fx_rate--success",
            {"base": "EUR", "quote": "USD"},
            "",
            {"rate": "1.20555"},
        ),
        ("fastforex", "finance.fx_rate--success", USD, "", {"rate": "0.8258"}),
        ("open-exchange-rates", "finance.fx_rate--success", USD, "", {"rate": "0.726804"}),
        ("abstract-ip", "geo.ip_lookup--success", IP, "", {"country_code": "US", "asn": 16625}),
        ("ip-api", "geo.ip_lookup--success", IP, "", {"asn": 22576, "postcode": "07302"}),
        ("ip2location", "geo.ip_lookup--success", IP, "ip2location.io", {"asn": 15169}),
        ("ipbase", "geo.ip_lookup--success", IP, "", {"city": "Jersey City"}),
        ("ipdata", "geo.ip_lookup--success", IP, "", {"asn": 22576}),
        ("ipgeolocation", "geo.ip_lookup--success", IP, "", {"lat": 33.7334, "country_code": "PK"}),
        ("ipinfo", "geo.ip_lookup--success", IP, "", {"lat": 37.3845, "lon": -122.0881}),
        ("ipregistry", "geo.ip_lookup--success", IP, "", {"asn": 15169, "region": "California"}),
        ("ipstack", "geo.ip_lookup--success", IP, "", {"timezone": "America/Los_Angeles"}),
        (
            "openfoodfacts",
            "nutrition.barcode--product",
            {"gtin": "3029330003533"},
            "",
            {"brand": "Jacquet", "id": "3029330003533"},
        ),
        ("nasa", "space.apod--by-date", {}, "nasa-apod", {"date": "2019-01-01"}),
        ("nasa", "space.apod--success", {}, "nasa-apod", {"copyright": "CHART32 Team"}),
        (
            "google-translate",
            "translate.text--two-texts",
            {"text": "x", "source": "en", "target": "sv"},
            "",
            {"text": "hej vad gör du"},
        ),
    ],
)
def test_more_single_answers(
    slug: str, path: str, params: dict[str, Any], at: str, expected: dict[str, Any]
) -> None:
    answer = recorded(slug, path, params, at)
    assert isinstance(answer, Answer)
    assert expected.items() <= answer.data.items()


@pytest.mark.parametrize(
    ("slug", "path", "count", "first"),
    [
        ("jikan", "entertainment.anime_search--search", 10, {"id": "53240", "year": 2022}),
        ("omdb", "entertainment.movie_search--search", 10, {"id": "tt0770828", "year": 2013}),
        ("omdb", "entertainment.movie_search--empty-wrong-title", 0, {}),
        ("tmdb", "entertainment.movie_search--search", 10, {"released": "2013-06-12"}),
        ("tmdb", "entertainment.tv_search--search", 2, {"id": "1418", "year": 2007}),
        ("tmdb", "entertainment.tv_search--empty", 0, {}),
        ("trakt", "entertainment.movie_search--search", 3, {"id": "545", "year": 2001}),
        ("trakt", "entertainment.tv_search--search", 1, {"id": "34160"}),
        ("trakt", "entertainment.tv_search--empty-unknown", 0, {}),
        ("tvmaze", "entertainment.tv_search--error-404-empty", 0, {}),
        ("alpha-vantage", "finance.symbol_search--success", 10, {"symbol": "BA"}),
        ("geoapify", "geo.geocode--empty", 0, {}),
        ("geoapify", "geo.reverse--success", 1, {"postcode": "10001", "house_number": "4"}),
        ("geonames", "geo.geocode--success", 1, {"name": "Ottawa", "country_code": "CA"}),
        ("locationiq", "geo.reverse--success", 1, {"city": "Ottawa", "postcode": "K2P 2K1"}),
        ("photon", "geo.reverse--success", 1, {"postcode": "10121"}),
        ("openholidays", "holidays.list--pl-2025", 14, {"date": "2025-01-01", "nationwide": True}),
        ("cleveland-museum", "images.art_search--empty", 0, {}),
        ("clinicaltrials", "medical.clinical_trials--page-1", 5, {"id": "NCT02710084"}),
        ("clinicaltrials", "medical.clinical_trials--search-melanoma", 3, {"status": "RECRUITING"}),
        ("crossref", "medical.literature_search--works-query", 2, {"year": 2022}),
        ("europepmc", "medical.literature_search--pmid-20516115", 1, {"pmcid": "PMC3040717"}),
        ("mychem", "medical.drug_lookup--dabigatran", 10, {"unii": "I0VM4M70GC"}),
        ("mychem", "medical.drug_lookup--empty-keytruda", 0, {}),
        ("nci-cts", "medical.clinical_trials--melanoma", 1, {"phases": ["PHASE3"]}),
        ("openfda", "medical.drug_adverse_events--count-pembrolizumab", 1, {"count": 12016}),
        ("semanticscholar", "medical.literature_search--empty", 0, {}),
        ("deezer", "music.search--advanced", 1, {"duration_ms": 200000, "artist": "Lou Doillon"}),
        ("deezer", "music.search--empty", 0, {}),
        ("deezer", "music.search--error-in-200-no-album", 0, {}),
        ("discogs", "music.search--search", 10, {"artist": "Trash80", "title": "Icarus"}),
    ],
)
def test_more_lists(slug: str, path: str, count: int, first: dict[str, Any]) -> None:
    answer = recorded(slug, path, {"q": "x", "country": "PL", "year": 2025, **PLACE})
    assert isinstance(answer, Answer)
    assert len(answer.data) == count
    assert first.items() <= (answer.data[0] if count else {}).items()


def test_asteroids_are_keyed_by_day_and_all_told() -> None:
    params = {"date": "2018-12-25"}
    answer = recorded("nasa", "space.near_earth_objects--feed", params, "nasa-neows")
    assert isinstance(answer, Answer)
    assert len(answer.data) == 91


@pytest.mark.parametrize(
    ("slug", "path", "at", "verdict"),
    [
        ("coingecko", "finance.crypto_price--error-422-1", "", Verdict.INVALID_REQUEST),
        ("coingecko", "finance.crypto_price--error-500-1", "", Verdict.UNAVAILABLE),
        ("exchangeratesapi", "finance.fx_rate--error-base-restricted", "", Verdict.BLOCKED),
        ("exchangeratesapi", "finance.fx_rate--error-invalid-currency", "", Verdict.NOT_FOUND),
        ("exchangeratesapi", "finance.fx_rate--error-invalid-key", "", Verdict.AUTH),
        ("fastforex", "finance.fx_rate--error-unsupported", "", Verdict.NOT_FOUND),
        ("open-exchange-rates", "finance.fx_rate--error", "", Verdict.BLOCKED),
        ("open-exchange-rates", "finance.fx_rate--error-historical", "", Verdict.NOT_FOUND),
        ("geoapify", "geo.geocode--error-invalid-key", "", Verdict.AUTH),
        ("geoapify", "geo.geocode--error-invalid-request", "", Verdict.UNAVAILABLE),
        ("ip2location", "geo.ip_lookup--error-invalid-key", "ip2location.io", Verdict.AUTH),
        ("ipdata", "geo.ip_lookup--error-bad-address", "", Verdict.INVALID_REQUEST),
        ("ipgeolocation", "geo.ip_lookup--error-invalid-key", "", Verdict.AUTH),
        ("ipstack", "geo.ip_lookup--error-access-restricted", "", Verdict.BLOCKED),
        ("ipstack", "geo.ip_lookup--error-invalid-key", "", Verdict.AUTH),
        ("ipstack", "geo.ip_lookup--error-usage-limit", "", Verdict.QUOTA_EXHAUSTED),
        ("omdb", "entertainment.movie_search--error-wrong-id", "", Verdict.UNAVAILABLE),
        ("crossref", "medical.literature_search--error-sample", "", Verdict.INVALID_REQUEST),
        (
            "semanticscholar",
            "medical.literature_search--error-bad-query",
            "",
            Verdict.INVALID_REQUEST,
        ),
        ("unsplash", "images.search--error-401-1", "", Verdict.AUTH),
        ("deezer", "music.search--error-no-podcast", "", Verdict.UNAVAILABLE),
    ],
)
def test_more_errors(slug: str, path: str, at: str, verdict: Verdict) -> None:
    outcome = recorded(slug, path, {"q": "x", **USD, **IP, **COIN}, at)
    if isinstance(outcome, Answer):
        raise AssertionError(outcome.data)
    assert outcome.verdict is verdict


@pytest.mark.parametrize(
    "path",
    ["music.search--recording", "music.search--release-recordings"],
)
def test_what_is_no_json_is_a_bad_payload(path: str) -> None:
    outcome = recorded("musicbrainz", path, {"q": "x"})
    assert isinstance(outcome, Outcome)
    assert outcome.verdict is Verdict.BAD_PAYLOAD
