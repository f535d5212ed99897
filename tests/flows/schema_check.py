"""As much of JSON Schema (2020-12) as the API's description uses; a keyword it does not know is an error."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_NOTES = frozenset({"title", "description", "default", "format", "discriminator"})
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "null": (type(None),),
    "integer": (int,),
    "number": (int, float),
}


class Misfit(AssertionError):
    """A value that its schema does not describe; says where."""


class Schemas:
    """The schemas of an OpenAPI document.

    Args:
        document: with `components.schemas`.
        closed: whether a property that is not described is a misfit, as in our own replies.
    """

    def __init__(self, document: Schema, *, closed: bool) -> None:
        self._document, self._closed = document, closed

    def check(self, value: object, schema: Schema, at: str = "$") -> None:
        """Raise `Misfit` unless the value is as described."""
        for keyword, argument in schema.items():
            if keyword in _NOTES:
                continue
            check = getattr(self, "_" + keyword.replace("$", ""), None)
            if check is None:
                raise NotImplementedError(f"{keyword} at {at}")
            if not check(value, argument, schema, at):
                raise Misfit(f"{at}: {value!r:.200} against {keyword}: {argument!r:.200}")

    def fits(self, value: object, schema: Schema, at: str = "$") -> bool:
        try:
            self.check(value, schema, at)
        except Misfit:
            return False
        return True

    def _ref(self, value: object, to: str, _schema: Schema, at: str) -> bool:
        target: Any = self._document
        for step in to.removeprefix("#/").split("/"):
            target = target[step]
        self.check(value, target, at)
        return True

    def _type(self, value: object, names: str | list[str], _schema: Schema, _at: str) -> bool:
        kinds = [names] if isinstance(names, str) else names
        return any(
            isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
            for kind in kinds
        )

    def _properties(self, value: object, described: Schema, schema: Schema, at: str) -> bool:
        if isinstance(value, dict):
            for name, part in value.items():
                if name in described:
                    self.check(part, described[name], f"{at}.{name}")
                elif self._closed and "additionalProperties" not in schema:
                    raise Misfit(f"{at}.{name} is not described")
        return True

    def _additionalProperties(self, value: object, rule: Any, schema: Schema, at: str) -> bool:  # noqa: N802 - the keyword's name
        extra = set(value) - set(schema.get("properties", {})) if isinstance(value, dict) else set()
        if isinstance(rule, bool):
            return rule or not extra
        for name in extra:
            self.check(value[name], rule, f"{at}.{name}")  # type: ignore[index]  # there are extra names only in a dict
        return True

    def _propertyNames(self, value: object, rule: Schema, _schema: Schema, at: str) -> bool:  # noqa: N802 - the keyword's name
        return all(self.fits(name, rule, at) for name in value) if isinstance(value, dict) else True

    def _required(self, value: object, names: list[str], _schema: Schema, _at: str) -> bool:
        return not isinstance(value, dict) or set(names) <= set(value)

    def _items(self, value: object, rule: Schema, _schema: Schema, at: str) -> bool:
        if isinstance(value, list):
            for place, part in enumerate(value):
                self.check(part, rule, f"{at}[{place}]")
        return True

    def _anyOf(self, value: object, rules: list[Schema], _schema: Schema, at: str) -> bool:  # noqa: N802 - the keyword's name
        if len(rules) == 1:
            self.check(value, rules[0], at)
            return True
        tagged = [rule for rule in rules if self._tag_fits(value, rule)]
        if len(tagged) == 1:  # so that a misfit inside is told where it is
            self.check(value, tagged[0], at)
            return True
        return any(self.fits(value, rule, at) for rule in rules)

    def _tag_fits(self, value: object, rule: Schema) -> bool:
        if not isinstance(value, dict) or "$ref" not in rule:
            return False
        target = self._document["components"]["schemas"][rule["$ref"].rpartition("/")[2]]
        tags = {name: part["enum"] for name, part in target.get("properties", {}).items() if "enum" in part}
        return all(value.get(name) in words for name, words in tags.items())

    def _enum(self, value: object, words: list[object], _schema: Schema, _at: str) -> bool:
        return value in words

    def _minimum(self, value: object, least: float, _schema: Schema, _at: str) -> bool:
        return not isinstance(value, int | float) or value >= least

    def _maximum(self, value: object, most: float, _schema: Schema, _at: str) -> bool:
        return not isinstance(value, int | float) or value <= most

    def _exclusiveMinimum(self, value: object, below: float, _schema: Schema, _at: str) -> bool:  # noqa: N802 - the keyword's name
        return not isinstance(value, int | float) or value > below

    def _minLength(self, value: object, least: int, _schema: Schema, _at: str) -> bool:  # noqa: N802 - the keyword's name
        return not isinstance(value, str) or len(value) >= least

    def _maxLength(self, value: object, most: int, _schema: Schema, _at: str) -> bool:  # noqa: N802 - the keyword's name
        return not isinstance(value, str) or len(value) <= most

    def _minItems(self, value: object, least: int, _schema: Schema, _at: str) -> bool:  # noqa: N802 - the keyword's name
        return not isinstance(value, list) or len(value) >= least

    def _maxItems(self, value: object, most: int, _schema: Schema, _at: str) -> bool:  # noqa: N802 - the keyword's name
        return not isinstance(value, list) or len(value) <= most

    def _maxProperties(self, value: object, most: int, _schema: Schema, _at: str) -> bool:  # noqa: N802 - the keyword's name
        return not isinstance(value, dict) or len(value) <= most
