"""The options that describe a job, for every command that posts one, and the body they make."""

from __future__ import annotations

import functools
import mimetypes
from collections.abc import Callable
from typing import Any, get_args
from urllib.parse import urlsplit

import click

from gateway.api.semantics import RATIO_NAMES
from gateway.jobs.job import Policy, Priority
from providers.contract.motion import CharacterType, Ratio

Body = dict[str, object]


def _media_url(_ctx: click.Context, _option: click.Parameter, value: str) -> str:
    if urlsplit(value).scheme.lower() not in {"http", "https"}:
        raise click.BadParameter(
            f"{value!r} is not a URL. Local files are not supported yet: put the file where the provider can"
            " fetch it over https, and give that URL."
        )
    return value


OPTIONS = (
    click.option("--character", required=True, callback=_media_url, metavar="URL", help="Who performs."),
    click.option(
        "--character-type",
        type=click.Choice([kind.value for kind in CharacterType]),
        help="What the character is given as.  [default: by the URL's ending, else image]",
    ),
    click.option(
        "--reference", required=True, callback=_media_url, metavar="URL", help="The performance, 3 to 30 s."
    ),
    click.option(
        "--duration-s", type=float, metavar="SECONDS", help="Of the performance; costs are estimated by it."
    ),
    click.option(
        "--ratio",
        type=click.Choice([*(ratio.value for ratio in Ratio), *RATIO_NAMES]),
        metavar="W:H",
        help="The film's size, such as 1280:720 or 9:16.  [default: 1280:720]",
    ),
    click.option(
        "--provider",
        "providers",
        multiple=True,
        metavar="NAME",
        help="Only this provider; given again: the next to be tried.",
    ),
    click.option("--exclude", multiple=True, metavar="NAME", help="Not this provider; may be given again."),
    click.option(
        "--policy",
        type=click.Choice(get_args(Policy)),
        help="How candidates are ordered.  [default: the key's, else the gateway's]",
    ),
    click.option(
        "--failover/--no-failover", default=None, help="Whether another may be tried after the first."
    ),
    click.option(
        "--max-cost-usd", type=float, metavar="USD", help="What all runs of the job together may cost."
    ),
    click.option(
        "--priority", type=click.Choice(get_args(Priority)), help="Among its owner's jobs.  [default: normal]"
    ),
)


def job_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a job, and their values as one argument, `body`."""

    @functools.wraps(command)
    def with_body(
        *,
        character: str,
        character_type: str | None,
        reference: str,
        duration_s: float | None,
        ratio: str | None,
        priority: str | None,
        **others: Any,
    ) -> None:
        routing: Body = {
            "providers": list(others.pop("providers")) or None,
            "exclude": list(others.pop("exclude")) or None,
            **{name: others.pop(name) for name in ("policy", "failover", "max_cost_usd")},
        }
        body = _given(
            {
                "character": {"type": character_type or _guess(character), "url": character},
                "reference": _given({"type": "video", "url": reference, "duration_s": duration_s}),
                "ratio": ratio,
                "priority": priority,
                "routing": _given(routing) or None,
            }
        )
        command(body=body, **others)

    described: Callable[..., None] = with_body
    for option in reversed(OPTIONS):
        described = option(described)
    return described


def _given(values: Body) -> Body:
    return {name: value for name, value in values.items() if value is not None}


def _guess(url: str) -> str:
    kind, _ = mimetypes.guess_type(urlsplit(url).path)
    return "video" if kind is not None and kind.startswith("video/") else "image"
