"""The document: all operations, in its order, and the schemas of what they take and answer with."""

from __future__ import annotations

from importlib.metadata import version

import msgspec

from gateway.api.openapi.callbacks import CALLBACKS
from gateway.api.openapi.deliveries import DELIVERIES
from gateway.api.openapi.described import describe
from gateway.api.openapi.endpoints import ENDPOINTS
from gateway.api.openapi.jobs import JOBS, OF_A_JOB
from gateway.api.openapi.operation import Operation
from gateway.api.openapi.ops import OPS
from gateway.api.openapi.parameters import Json
from gateway.api.openapi.plans import PLANS
from gateway.api.openapi.problem_schema import PROBLEM_SCHEMA
from gateway.api.openapi.providers import PROVIDERS
from gateway.api.openapi.usage import USAGE
from gateway.api.streams import ProgressEvent
from gateway.service.messages import JobEvent

OPERATIONS: tuple[Operation, ...] = (
    *JOBS,
    *PLANS,
    *OF_A_JOB,
    *DELIVERIES,
    *ENDPOINTS,
    *CALLBACKS,
    *PROVIDERS,
    *USAGE,
    *OPS,
)


def build_openapi() -> bytes:
    """Return the document as indented JSON."""
    types: set[type] = {JobEvent, ProgressEvent}  # in streams, which have no schema
    types |= {taken for op in OPERATIONS for taken in (op.takes, op.answers) if isinstance(taken, type)}
    ordered = sorted(types, key=lambda one: one.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    _open_documents(components)
    components["Problem"] = PROBLEM_SCHEMA
    paths: dict[str, dict[str, object]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = describe(operation)
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Motion Gateway",
            "version": version("motion-gateway"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "One API for motion transfer: a character performs what a reference video shows. "
            "Every error is a problem document (RFC 9457); every reply bears X-Request-Id.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "mgk_..."}},
        },
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _open_documents(components: dict[str, Json]) -> None:
    """Say of stored documents what they are, which their type cannot."""
    job: object = components["JobView"]["properties"]
    if not isinstance(job, dict):
        raise TypeError("JobView has no properties")
    job["request"] = {
        "type": "object",
        "description": "The request as accepted, defaults filled in, without the webhook's secret.",
    }
    job["metadata"] = {"type": "object", "additionalProperties": {"type": "string"}}
    entry: object = components["PlanEntry"]["properties"]
    if not isinstance(entry, dict):
        raise TypeError("PlanEntry has no properties")
    entry["plan"] = {"$ref": "#/components/schemas/PlanView"}
