"""Reading JSON that nobody vouches for: each access checks that the value is there and of the right type."""

from __future__ import annotations

from typing import Any

from .files import DamagedFileError


class Fields:
    """A JSON object from a file: each access checks that the value is there and of the right type."""

    def __init__(self, content: Any, where: str) -> None:
        if not isinstance(content, dict):
            raise DamagedFileError(f"manifest.json: {where} is a {type(content).__name__} instead of an object")
        self.content, self.where = content, where

    def get(self, key: str, kind: type) -> Any:
        value = self.content.get(key)
        if type(value) is not kind:
            raise DamagedFileError(f"manifest.json: {key!r} of {self.where} is {value!r:.40} instead of a {kind.__name__}")
        return value

    def count(self, key: str) -> int:
        value: int = self.get(key, int)
        if not 0 <= value < 2**63:
            raise DamagedFileError(f"manifest.json: {key!r} of {self.where} is {value:.6g}")
        return value

    def optional(self, key: str) -> int | None:
        return None if self.content.get(key) is None else self.get(key, int)

    def objects(self, key: str) -> list[Fields]:
        return [Fields(item, f"{self.where} {key}[{i}]") for i, item in enumerate(self.get(key, list))]

    def counts(self, key: str) -> list[int]:
        values: list[int] = self.get(key, list)
        return [Fields({key: value}, self.where).count(key) for value in values]

    def names(self, key: str) -> list[str]:
        values: list[str] = self.get(key, list)
        return [Fields({key: value}, self.where).get(key, str) for value in values]
