"""The five verbs for Amazon Bedrock: Converse for chat, InvokeModel for embeddings.

A secret is an API key of Bedrock's, which is sent as it is, or the parts `access_key_id` and
`secret_access_key` (perhaps `session_token`), with which each request is signed. The part
`region` says where to call, if not where the base URL says. A provider row's `settings` may hold
`region`, for a base URL that does not tell it (a VPC endpoint, say).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from lib.problems import Problem
from providers import openai_wire as wire
from providers.adapter import Meter, Spoken
from providers.adapters.bedrock.eventstream import CONTENT_TYPE
from providers.adapters.bedrock.meter import CohereMeter, ConverseMeter, TitanMeter
from providers.adapters.bedrock.outcome import outcome_of
from providers.adapters.bedrock.request import chat_body, embeddings_body, is_titan
from providers.adapters.bedrock.signing import Keys, Scope, moment_of, signed_headers
from providers.annotations import plain
from providers.call import Call, Outcome, Upstream, UpstreamRequest, Usage
from providers.secret_form import SecretForm
from providers.translation import encoded

USUAL_REGION = "us-east-1"
_HOST = re.compile(r"(?<=://bedrock-runtime[.])([a-z0-9-]+)(?=[.]amazonaws[.]com)")
_REGION = re.compile(r"[a-z0-9-]{1,40}")


class BedrockAdapter(Spoken):
    name = "bedrock"
    secret_form = SecretForm(
        ("access_key_id", "secret_access_key"), ("session_token", "region"), whole=True
    )
    dated = True

    def estimate(self, call: Call, upstream: Upstream) -> Usage:
        return wire.estimate(call, upstream)

    def request(self, call: Call, upstream: Upstream) -> UpstreamRequest:
        """Raises Unsupported or InvalidRequest."""
        if call.annotated:
            call = plain(call)
        embeds = call.operation == "embeddings"
        verb = "invoke" if embeds else "converse-stream" if call.stream else "converse"
        body = encoded(embeddings_body if embeds else chat_body, call, upstream)
        headers = {"content-type": "application/json"}
        headers["accept"] = CONTENT_TYPE if verb == "converse-stream" else "application/json"
        url = f"{_base(upstream)}/model/{quote(upstream.model, safe='')}/{verb}"
        return UpstreamRequest("POST", url, _signed(url, headers, body, upstream), body)

    def outcome(self, status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
        return outcome_of(status, headers, body)

    def meter(self, call: Call, upstream: Upstream) -> Meter:
        if call.operation != "embeddings":
            return ConverseMeter(call, upstream)
        return (TitanMeter if is_titan(upstream.model) else CohereMeter)(call, upstream)

    def problem(self, outcome: Outcome) -> Problem:
        return wire.problem(outcome)


def _signed(url: str, headers: dict[str, str], body: bytes, upstream: Upstream) -> dict[str, str]:
    parts = upstream.parts
    if not parts:
        bearer = {"authorization": f"Bearer {upstream.secret}"} if upstream.secret else {}
        return headers | bearer
    keys = Keys(parts["access_key_id"], parts["secret_access_key"], parts.get("session_token", ""))
    scope = Scope(moment_of(upstream.now), _region(upstream), "bedrock")
    return signed_headers("POST", url, headers, body, keys=keys, scope=scope)


def _base(upstream: Upstream) -> str:
    base, region = upstream.base_url.rstrip("/"), upstream.parts.get("region", "")
    return _HOST.sub(region, base) if _REGION.fullmatch(region) else base


def _region(upstream: Upstream) -> str:
    """Of the signature: the credential's, the row's, or the base URL's."""
    told = upstream.parts.get("region") or upstream.settings.get("region")
    found = _HOST.search(upstream.base_url)
    return str(told or (found[1] if found else USUAL_REGION))
