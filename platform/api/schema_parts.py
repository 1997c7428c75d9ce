"""The parts of the OpenAPI document that no serializer describes."""

from __future__ import annotations

from typing import Any, Final

from lib.problems import TITLES

_TEXT: Final = {"type": "string"}
_MAYBE_TEXT: Final = {"type": ["string", "null"]}
_COUNT: Final = {"type": "integer", "minimum": 0}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


PROBLEM: Final[dict[str, Any]] = {
    "description": "RFC 9457. Each code is explained at `type`.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "request_id", "timestamp"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": _TEXT,
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": _TEXT,
        "code": {"type": "string", "enum": sorted(TITLES)},
        "request_id": {"type": "string", "format": "uuid"},
        "timestamp": {"type": "string", "format": "date-time"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail", "pointer"],
                "properties": {"detail": _TEXT, "pointer": _TEXT},
            },
        },
    },
    "additionalProperties": True,
}

OPENAI_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code", "request_id"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": _MAYBE_TEXT,
                "code": {"type": "string", "enum": sorted(TITLES)},
                "request_id": {"type": "string", "format": "uuid"},
            },
            "additionalProperties": True,
        }
    },
}

META: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["operation", "api_version", "provider", "attempts", "request_id"],
    "properties": {
        "operation": _TEXT,
        "api_version": _TEXT,
        "provider": _TEXT,
        "attempts": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["provider", "outcome"],
                "properties": {
                    "provider": _TEXT,
                    "outcome": _TEXT,
                    "status": {"type": ["integer", "null"]},
                    "latency_ms": {"type": ["integer", "null"]},
                },
                "additionalProperties": True,
            },
        },
        "cached": {"type": "boolean"},
        "stale": {"type": "boolean"},
        "as_of": _MAYBE_TEXT,
        "attribution": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"text": _TEXT, "url": _MAYBE_TEXT, "licence": _MAYBE_TEXT},
            },
        },
        "request_id": {"type": "string", "format": "uuid"},
        "strategy": {
            "description": "How several providers' answers were combined.",
            "enum": ["all", "merge"],
        },
        "sources": {
            "description": "With `strategy=merge`: what each provider gave to it.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["provider", "as_of"],
                "properties": {
                    "provider": _TEXT,
                    "as_of": _TEXT,
                    "items": {"description": "Of a list, how many.", "type": "integer"},
                    "value": {"description": "Of one record, its own.", "type": "string"},
                    "left_out": {
                        "description": "The field in which it differs; its value does not count.",
                        "type": "string",
                    },
                },
            },
        },
        "explain": {
            "description": "With `explain=true`: each provider once, with one reason.",
            "type": "object",
            "required": ["route", "strategy", "session", "targets"],
            "properties": {
                "route": _TEXT,
                "strategy": _TEXT,
                "session": {"type": "boolean"},
                "targets": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["provider", "place", "score", "reason"],
                        "properties": {
                            "provider": _TEXT,
                            "model": _TEXT,
                            "place": {"type": ["integer", "null"]},
                            "score": {"type": ["number", "null"]},
                            "reason": _TEXT,
                        },
                    },
                },
            },
        },
    },
}

PAGE: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "total": {"type": ["integer", "null"]},
        "limit": {"type": ["integer", "null"]},
        "next_cursor": _MAYBE_TEXT,
    },
}

PART: Final[dict[str, Any]] = {
    "description": "With `strategy=all`: one provider's answer, or the problem it had.",
    "type": "object",
    "required": ["provider"],
    "properties": {
        "provider": _TEXT,
        "data": {"description": "As this operation's `data`.", "type": ["object", "array"]},
        "page": ref("Page"),
        "as_of": _TEXT,
        "attribution": META["properties"]["attribution"],
        "problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail", "code"],
            "properties": {
                "type": _TEXT,
                "title": _TEXT,
                "status": {"type": "integer"},
                "detail": _TEXT,
                "code": _TEXT,
            },
        },
    },
    "oneOf": [{"required": ["data"]}, {"required": ["problem"]}],
}

BATCH: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["data", "meta"],
    "properties": {
        "data": {
            "description": "One for each request, in their order.",
            "type": "array",
            "items": {
                "type": "object",
                "required": ["index", "status", "body"],
                "properties": {
                    "index": _COUNT,
                    "status": {"type": "integer", "minimum": 200, "maximum": 599},
                    "body": {
                        "description": "What the operation answers alone, or its Problem.",
                        "type": "object",
                    },
                },
            },
        },
        "meta": {
            "type": "object",
            "required": ["request_id"],
            "properties": {"request_id": {"type": "string", "format": "uuid"}},
        },
    },
}

MODEL: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {
        "id": _TEXT,
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": _TEXT,
        "operation": _TEXT,
        "context_length": {"type": ["integer", "null"]},
        "max_output": {"type": ["integer", "null"]},
        "capabilities": {"type": "array", "items": _TEXT},
        "prices_usd_per_million": {"type": "object", "additionalProperties": _MAYBE_TEXT},
        "targets": {"type": "array", "items": _TEXT},
    },
}


def _header(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "schema": schema}


HEADERS: Final[dict[str, Any]] = {
    "X-Request-Id": _header("A UUIDv7; quote it to us.", {"type": "string", "format": "uuid"}),
    "X-Patchbay-Provider": _header("Who answered.", _TEXT),
    "X-Patchbay-Attempts": _header("How many targets were tried.", _COUNT),
    "X-Patchbay-Cost-Microusd": _header("What the call costs you.", _COUNT),
    "RateLimit-Policy": _header("draft-ietf-httpapi-ratelimit-headers", _TEXT),
    "RateLimit": _header("What is left of each policy, and for how long.", _TEXT),
    "X-RateLimit-Limit": _header("Of the tightest limit.", _COUNT),
    "X-RateLimit-Remaining": _header("Calls left.", _COUNT),
    "X-RateLimit-Reset": _header("Seconds.", _COUNT),
}

REPLAYED: Final[dict[str, Any]] = {
    "Idempotency-Replayed": _header(
        "`true` where this is the answer to the first call with the same Idempotency-Key.",
        {"type": "string", "enum": ["true"]},
    ),
    "X-Patchbay-Original-Request-Id": _header(
        "Of that first call.", {"type": "string", "format": "uuid"}
    ),
}
IDEMPOTENCY_KEY: Final[dict[str, Any]] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Send a call again under the same key, and it is answered again and not done "
    "again: visible ASCII characters, plain or as a quoted string. Kept for 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 257},
}

_PROBLEM_CONTENT: Final = {"application/problem+json": {"schema": ref("Problem")}}
ERRORS: Final[dict[str, Any]] = {
    "4XX": {"description": "The request was refused.", "content": _PROBLEM_CONTENT},
    "5XX": {"description": "It failed on our side or upstream.", "content": _PROBLEM_CONTENT},
}
