"""The schema of problem documents, which are written from no Struct (`gateway.api.problems`)."""

from __future__ import annotations

from gateway.api.openapi.parameters import Json

PROBLEM_SCHEMA: Json = {
    "title": "Problem",
    "description": "RFC 9457. `type` is a page of this gateway that says what to do.",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The request's id."},
        "violated-policies": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The limits that were reached.",
        },
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["pointer", "message"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON Pointer (RFC 6901) into the body."},
                    "message": {"type": "string"},
                },
            },
        },
    },
}
