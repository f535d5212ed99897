"""The API's description as one page, made of the document itself; it loads nothing from anywhere."""

from __future__ import annotations

from html import escape

import msgspec

from gateway.api.problems import html_page
from providers.contract.reading import is_object, list_at, text_at, value_at


def docs_page(openapi: bytes) -> str:
    """Return the page for GET /docs."""
    document: dict[str, object] = msgspec.json.decode(openapi)
    paths = value_at(document, "paths")
    parts = [f"<p>{escape(text_at(document, 'info', 'description') or '')}</p>"]
    for path, methods in _items(paths):
        parts += [_operation(path, method, operation) for method, operation in _items(methods)]
    parts.append("<h2>Schemas</h2>")
    for name, schema in _items(value_at(document, "components", "schemas")):
        text = msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
        parts.append(
            f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> '
            f"{escape(text_at(schema, 'description') or '')}</summary><pre>{escape(text)}</pre></details>"
        )
    parts.append('<p><a href="/openapi.json">openapi.json</a></p>')
    return html_page("Motion Gateway API", "\n".join(parts))


def _operation(path: str, method: str, operation: object) -> str:
    rows = [f"<h2><code>{escape(method.upper())} {escape(path)}</code></h2>"]
    for key in ("summary", "description"):
        text = text_at(operation, key)
        if text is not None:
            rows.append(f"<p>{escape(text).replace('`', '')}</p>")
    for parameter in list_at(operation, "parameters"):
        name, note = text_at(parameter, "name") or "", text_at(parameter, "description") or ""
        rows.append(
            f"<p><code>{escape(name)}</code> ({escape(text_at(parameter, 'in') or '')}): {escape(note)}</p>"
        )
    taken = _reference(value_at(operation, "requestBody", "content", "application/json", "schema"))
    if taken:
        rows.append(f"<p>Takes {taken}.</p>")
    for status, answer in _items(value_at(operation, "responses")):
        shown = _reference(value_at(answer, "content", "application/json", "schema"))
        note = escape(text_at(answer, "description") or "").replace("`", "")
        rows.append(f"<p><code>{escape(status)}</code> {shown or note}</p>")
    return "\n".join(rows)


def _reference(schema: object) -> str:
    name = (text_at(schema, "$ref") or "").rpartition("/")[2]
    return f'<a href="#{escape(name)}"><code>{escape(name)}</code></a>' if name else ""


def _items(value: object) -> list[tuple[str, object]]:
    return list(value.items()) if is_object(value) else []
