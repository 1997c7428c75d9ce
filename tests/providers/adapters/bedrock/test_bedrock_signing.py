"""Signature Version 4 against AWS's own test suite and its documentation's example."""

from __future__ import annotations

import pytest

from providers.adapters.bedrock import ADAPTER
from providers.adapters.bedrock.signing import Keys, Scope, Signable, moment_of, signature
from providers.call import Call, Upstream

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
SUITE = Scope("20150830T123600Z", "us-east-1", "service")
HOST = {"host": "example.amazonaws.com", "x-amz-date": SUITE.moment}
FORM = {**HOST, "content-type": "application/x-www-form-urlencoded"}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            Signable("GET", "/", "", HOST),
            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (
            Signable("POST", "/", "", HOST),
            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
        ),
        (
            Signable("GET", "/", "Param2=value2&Param1=value1", HOST),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            Signable("GET", "/\u1234", "", HOST),
            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
        ),
        (
            Signable("POST", "/", "", FORM, b"Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
        ),
    ],
    ids=["get-vanilla", "post-vanilla", "query-order-key-case", "get-utf8", "form-urlencoded"],
)
def test_the_suites_signatures(request_: Signable, expected: str) -> None:
    assert signature(request_, SUITE, SECRET) == expected


def test_the_documentations_example() -> None:
    headers = {
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "host": "iam.amazonaws.com",
        "x-amz-date": "20150830T123600Z",
    }
    request = Signable("GET", "/", "Action=ListUsers&Version=2010-05-08", headers)
    scope = Scope("20150830T123600Z", "us-east-1", "iam")
    assert signature(request, scope, SECRET) == (
        "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


PARTS = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": SECRET}
CHAT = Call("chat.completions", {"messages": [{"role": "user", "content": "Hi"}]})


def sent(
    base: str = "https://bedrock-runtime.eu-west-1.amazonaws.com", **parts: str
) -> tuple[str, dict[str, str]]:
    upstream = Upstream(
        "bedrock", base, "us.x-v1:0", secret="{", parts={**PARTS, **parts}, now=1_440_938_160.9
    )
    request = ADAPTER.request(CHAT, upstream)
    return request.url, dict(request.headers)


def test_a_request_says_who_when_and_where() -> None:
    url, headers = sent()
    assert url == "https://bedrock-runtime.eu-west-1.amazonaws.com/model/us.x-v1%3A0/converse"
    assert headers["x-amz-date"] == "20150830T123600Z" == moment_of(1_440_938_160)
    assert headers["authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-1/bedrock/aws4_request, "
        "SignedHeaders=accept;content-type;host;x-amz-date, Signature="
    )
    assert SECRET not in str(headers)


def test_what_is_escaped_in_the_path_is_escaped_once_more() -> None:
    assert "\n/model/us.x-v1%253A0/converse\n" in str(
        Signable("POST", "/model/us.x-v1%3A0/converse", "", {})
    )


def test_a_credentials_region_goes_before_the_urls() -> None:
    url, headers = sent(region="ap-south-1")
    assert url.startswith("https://bedrock-runtime.ap-south-1.amazonaws.com/model/")
    assert "/ap-south-1/bedrock/" in headers["authorization"]
    url, headers = sent("https://vpce-1.example", region="ap-south-1")
    assert url.startswith("https://vpce-1.example/model/")
    assert "/ap-south-1/bedrock/" in headers["authorization"]
    _, headers = sent("https://vpce-1.example")
    assert "/us-east-1/bedrock/" in headers["authorization"]


@pytest.mark.parametrize("region", ["evil.example/", "x@evil.example", "a\r\nb", ""])
def test_a_region_leads_nowhere_else(region: str) -> None:
    url, _ = sent(region=region)
    assert url.startswith("https://bedrock-runtime.eu-west-1.amazonaws.com/model/")


def test_a_session_is_signed_too() -> None:
    _, headers = sent(session_token="a-session")
    assert headers["x-amz-security-token"] == "a-session"
    assert ";x-amz-security-token," in headers["authorization"]
    assert Keys("a", "b").session_token == ""


def test_an_api_key_is_sent_as_it_is() -> None:
    upstream = Upstream("bedrock", "https://b.example", "m", secret="bedrock-api-key-x")
    headers = ADAPTER.request(CHAT, upstream).headers
    assert headers["authorization"] == "Bearer bedrock-api-key-x"
    assert "x-amz-date" not in headers
