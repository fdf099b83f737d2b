"""What OpenAPI says of every operation alike: its errors."""

from collections.abc import Iterator
from typing import Any

ERROR = {
    "type": "object",
    "description": "Every error has this shape.",
    "required": ["status", "code", "message", "path", "request_id"],
    "properties": {
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "For programs: stable, not translated."},
        "message": {"type": "string", "description": "For people: what happened, what to do."},
        "fields": {
            "type": "object",
            "description": "What is wrong with each field; only when something is.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
        "path": {"type": "string"},
        "request_id": {"type": "string", "description": "By it the log is searched."},
    },
    "example": {
        "status": 400,
        "code": "invalid",
        "message": "1 unknown: moon. Remove them or create them first.",
        "fields": {"targets": ["1 unknown: moon. Remove them or create them first."]},
        "path": "/api/admin/broadcasts",
        "request_id": "9f2c4b7d5e604c1c8a53c1b2a6f7d801",
    },
}
MEANINGS = {
    "400": "Something that was sent is wrong; `fields` says what.",
    "401": "Not signed in.",
    "403": "Not permitted, or the CSRF token is missing.",
    "404": "No such thing, or not yours.",
    "409": "Its state does not allow this.",
    "412": "It is another version than `If-Match` says: somebody changed it meanwhile.",
    "429": "The limit of the API key is reached; `Retry-After` says when to try again.",
    "503": "A server behind this one does not answer; `Retry-After` says when to try again.",
}


def describe_errors(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """A hook of drf-spectacular: one Error component, and where it is answered."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {})["Error"] = ERROR
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            for status in _errors_of(path, method):
                operation["responses"].setdefault(status, _response(MEANINGS[status]))
    return result


def _errors_of(path: str, method: str) -> Iterator[str]:
    yield from ("400", "401", "403")
    versioned = "/admin/broadcasts/{" in path or "/admin/series/{" in path
    if versioned and method != "get":
        yield "412"
    if "{" in path or method != "get":
        yield "404"
    if "/user/" not in path and method != "get":
        yield "409"
    yield from ("429", "503")


def _response(description: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": description, "content": {"application/json": {"schema": schema}}}
