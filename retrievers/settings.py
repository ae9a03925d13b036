"""What an index is built with; every field is recorded in the manifest and checked when the index grows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from unabridged.contracts import TITLE_SEPARATOR, Level, OverflowPolicy, Passport
from unabridged.errors import PassportMismatch, UsageError
from unabridged.manifest import fingerprint


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """The choices behind an index besides its encoder."""

    level: Level = Level.BOTH
    overflow: OverflowPolicy = OverflowPolicy.SPLIT
    recipe: str = "auto"
    recall_target: float = 0.95
    vector_dtype: str = "float32"
    stopwords: str = "english"
    stemmer: str | None = None
    bm25_variant: str = "lucene"
    k1: float = 1.5
    b: float = 0.75

    def __post_init__(self) -> None:
        """Refuses what could only fail later, after everything was encoded.

        Raises:
            UsageError: naming the field, what was found and what was expected.
        """
        from unabridged.index.lexical.analyzer import Analyzer
        from unabridged.index.lexical.variants import Formula

        if self.vector_dtype not in ("float32", "float16"):
            raise UsageError(f"vector_dtype is 'float32' or 'float16', got {self.vector_dtype!r}")
        for name, low, high in (("recall_target", 0.0, 1.0), ("k1", 0.0, 1000.0), ("b", 0.0, 1.0)):
            value = getattr(self, name)
            if (
                not isinstance(value, (int, float))
                or not low <= value <= high
                or (name == "recall_target" and not value)
            ):
                raise UsageError(f"{name} is a number from {low:g} to {high:g}, got {value!r}")
        Formula(self.bm25_variant, self.k1, self.b)
        Analyzer(stopwords=self.stopwords, stemmer=self.stemmer).analyze("tried")
        if self.overflow is OverflowPolicy.AGGREGATE and self.level is not Level.DOC:
            raise UsageError(
                f"overflow=aggregate keeps one vector per document, so level must be 'doc', got {self.level.value!r}. "
                "For both from one pass use overflow=split with level=both."
            )

    def as_json(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        values = asdict(self)
        return {
            **values,
            "level": self.level.value,
            "overflow": self.overflow.value,
            "title_separator": TITLE_SEPARATOR,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> BuildSettings:
        """The settings a manifest holds."""
        fields = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        fields["level"] = Level(fields["level"])
        fields["overflow"] = OverflowPolicy(fields["overflow"])
        return cls(**fields)


CHANGEABLE = ("recipe", "recall_target")
"""Settings that may differ when an index grows: they decide the search structure, not what was read."""


def work_identity(passport: Passport, settings: BuildSettings) -> str:
    """The fingerprint under which encoded work may be continued."""
    fixed = {name: value for name, value in settings.as_json().items() if name not in CHANGEABLE}
    return fingerprint({"encoder": passport.fingerprint, "settings": fixed})


def check_same(stored: BuildSettings, given: BuildSettings) -> None:
    """Raises when an index would be continued with other settings than it was built with."""
    for name, value in stored.as_json().items():
        found = given.as_json()[name]
        if name not in CHANGEABLE and found != value:
            raise PassportMismatch(
                f"The index was built with {name}={value!r} and is now asked for {name}={found!r}. Leave the option "
                "out to keep the index as it is, or build into another folder."
            )
