"""What a well-formed body means: a `JobRequest`, or every reason why it cannot be one."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

from msgspec import UNSET, Struct

from gateway.api.body import json_pointer
from gateway.api.schemas import CreateJob, CreateRouting
from gateway.errors import FieldProblem, Refusal
from gateway.jobs.job import JobRequest, JobWebhook, Policy, RoutingWish, UnknownPolicy
from gateway.net import DialPolicy, UrlRefused, check_url
from gateway.webhooks.events import DEFAULT_EVENTS
from gateway.webhooks.receivers import check_receiver
from gateway.webhooks.signing import decode_secret
from providers.contract.motion import Character, ContentModeration, Ratio, Reference

MAX_METADATA_BYTES = 8192
RATIO_NAMES = {
    "16:9": Ratio.LANDSCAPE,
    "9:16": Ratio.PORTRAIT,
    "1:1": Ratio.SQUARE,
    "4:3": Ratio.STANDARD,
    "3:4": Ratio.STANDARD_PORTRAIT,
    "21:9": Ratio.WIDE,
}


class Terms(Struct, frozen=True, kw_only=True):
    """What this gateway takes."""

    models: frozenset[str]
    providers: frozenset[str]
    media: DialPolicy
    receivers: DialPolicy
    deadline_s: int
    on_unknown_submission: UnknownPolicy = "hold"
    policy: Policy = "priority"
    """Of jobs that choose none, whose key has none, either."""
    failover: bool = True
    """Whether jobs that do not say may be tried elsewhere."""


class Meant(Struct, frozen=True, kw_only=True):
    """A body understood."""

    request: JobRequest
    metadata: dict[str, str]
    webhook_secret: str | None


def understand(body: CreateJob, terms: Terms, *, key_policy: Policy | None = None) -> Meant:
    """Turn a body into a request.

    Args:
        body: well-formed.
        terms: what is taken, and what holds for a job that does not say.
        key_policy: of the key it came with, which goes before the gateway's own.

    Raises:
        Refusal: `validation-failed`, `unknown-model`, `invalid-url`, `forbidden-target` or
            `insecure-callback`, naming each place.
    """
    if body.model not in terms.models:
        known = ", ".join(sorted(terms.models)) or "none"
        raise _refusal("unknown-model", "/model", f"there is no model {body.model!r}; known are: {known}")
    _check_names(body.routing, terms.providers)
    _check_metadata(body.metadata)
    webhook, secret = _webhook(body, terms)
    return Meant(
        request=JobRequest(
            character=Character(
                type=body.character.type, url=_media_url(body.character.url, "/character/url", terms)
            ),
            reference=Reference(
                url=_media_url(body.reference.url, "/reference/url", terms),
                duration_s=None if body.reference.duration_s is UNSET else body.reference.duration_s,
            ),
            model=body.model,
            ratio=RATIO_NAMES.get(body.ratio) or Ratio(body.ratio),
            body_control=body.body_control,
            expression_intensity=body.expression_intensity,
            seed=None if body.seed is UNSET else body.seed,
            content_moderation=ContentModeration(
                public_figure_threshold=body.content_moderation.public_figure_threshold
            ),
            routing=_wish(body.routing, terms, key_policy),
            webhook=webhook,
            priority=body.priority,
            deadline_s=terms.deadline_s if body.deadline_s is UNSET else body.deadline_s,
            on_unknown_submission=(
                terms.on_unknown_submission
                if body.on_unknown_submission is UNSET
                else body.on_unknown_submission
            ),
        ),
        metadata=body.metadata,
        webhook_secret=secret,
    )


def _wish(routing: CreateRouting, terms: Terms, key_policy: Policy | None) -> RoutingWish:
    policy = routing.policy
    if policy is UNSET:
        # Whoever lists providers has chosen their order, too.
        policy = "priority" if routing.providers else key_policy or terms.policy
    return RoutingWish(
        providers=routing.providers,
        exclude=routing.exclude,
        policy=policy,
        failover=terms.failover if routing.failover is UNSET else routing.failover,
        max_cost_usd=None if routing.max_cost_usd is UNSET else routing.max_cost_usd,
    )


def _check_names(routing: CreateRouting, known: frozenset[str]) -> None:
    errors = [
        FieldProblem(
            f"/routing/{field}/{place}",
            f"there is no provider {name!r}; known are: {', '.join(sorted(known))}",
        )
        for field, names in (("providers", routing.providers), ("exclude", routing.exclude))
        for place, name in enumerate(names)
        if name not in known
    ]
    if len(set(routing.providers)) != len(routing.providers):
        errors.append(FieldProblem("/routing/providers", "names a provider twice"))
    if errors:
        raise Refusal("validation-failed", errors[0].message, errors=tuple(errors))


def _check_metadata(metadata: dict[str, str]) -> None:
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        message = f"metadata has {size} bytes in all, more than {MAX_METADATA_BYTES}"
        raise _refusal("validation-failed", "/metadata", message)
    for key in metadata:
        if any(unicodedata.category(character) in {"Cc", "Cf"} for character in key):
            message = "a metadata key holds a control or invisible character"
            raise _refusal("validation-failed", json_pointer("metadata", key), message)


def _webhook(body: CreateJob, terms: Terms) -> tuple[JobWebhook | None, str | None]:
    if body.webhook is UNSET:
        return None, None
    url = _checked("/webhook/url", lambda given: check_receiver(given, terms.receivers), body.webhook.url)
    secret = None if body.webhook.secret is UNSET else body.webhook.secret
    if secret is not None:
        try:
            decode_secret(secret)
        except ValueError as error:
            raise _refusal("validation-failed", "/webhook/secret", str(error)) from error
    events = DEFAULT_EVENTS if body.webhook.events is UNSET else tuple(dict.fromkeys(body.webhook.events))
    return JobWebhook(url=url, events=tuple(str(event) for event in events)), secret


def _media_url(url: str, pointer: str, terms: Terms) -> str:
    def check(given: str) -> str:
        return check_url(given, terms.media, ip_literals=False, http_slug="invalid-url")

    return _checked(pointer, check, url)


def _checked(pointer: str, check: Callable[[str], str], url: str) -> str:
    try:
        return check(url)
    except UrlRefused as error:
        raise _refusal(error.slug, pointer, error.message) from error


def _refusal(slug: str, pointer: str, message: str) -> Refusal:
    return Refusal(slug, message, errors=(FieldProblem(pointer, message),))
