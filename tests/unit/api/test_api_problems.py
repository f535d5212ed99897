from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import gateway
from gateway.api.problems import PAGE_POLICY, PROBLEMS, problem_body, problem_page, problem_type
from gateway.errors import FieldProblem, Refusal


@pytest.mark.parametrize("slug", PROBLEMS)
def test_every_row_can_be_answered_and_read(slug: str) -> None:
    row = PROBLEMS[slug]
    document = json.loads(problem_body(Refusal(slug, "what happened"), "req_1"))
    assert document == {
        "type": f"/problems/{slug}",
        "title": row.title,
        "status": row.status,
        "detail": "what happened",
        "instance": "req_1",
    }
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", slug)
    assert 400 <= row.status < 600
    assert len(row.help) > 40
    assert row.help.count("`") % 2 == 0


def test_places_in_the_body_are_listed() -> None:
    problem = FieldProblem("/a/0", "expected `int`")
    document = json.loads(problem_body(Refusal("validation-failed", "x", errors=(problem,)), "req_1"))
    assert document["errors"] == [{"pointer": "/a/0", "message": "expected `int`"}]


def test_an_unknown_slug_is_answered_as_internal_and_keeps_its_detail_to_itself() -> None:
    document = json.loads(problem_body(Refusal("typo", "a secret"), "req_1"))
    assert (document["type"], document["status"]) == ("/problems/internal", 500)
    assert "secret" not in json.dumps(document)
    assert problem_type("typo").status == 500


def test_every_slug_raised_in_the_gateway_stands_in_the_table() -> None:
    raised: set[str] = set()
    for path in Path(gateway.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="Refusal"), args=[ast.Constant(value=str(slug)), *_]):
                    raised.add(slug)
    assert "malformed-body" in raised
    assert raised <= set(PROBLEMS)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("slug", PROBLEMS)
def test_a_page_needs_nothing_its_policy_forbids(slug: str) -> None:
    page = problem_page(slug)
    seen = _Page()
    seen.feed(page)
    assert not {"script", "link", "img", "iframe", "form"} & set(seen.tags)
    assert not {"src", "href", "style", "onload"} & seen.attributes
    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"'sha256-{digest}'" in PAGE_POLICY


def test_a_page_escapes_the_text_of_its_row() -> None:
    page = problem_page("unauthenticated")
    assert "<code>Authorization: Bearer &lt;key&gt;</code>" in page


@pytest.mark.parametrize("slug", ["", "nope", "<script>", "../internal", "Internal"])
def test_an_unknown_page_is_not_found(slug: str) -> None:
    with pytest.raises(Refusal) as caught:
        problem_page(slug)
    assert caught.value.slug == "not-found"
