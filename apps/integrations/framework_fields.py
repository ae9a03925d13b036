"""The fields of a second stage in toolkits that build their parts on pydantic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unabridged._extras import require
from unabridged.apps.integrations.framework_stages import SecondStage
from unabridged.rankers.context.counting import DEFAULT_TOKENIZER
from unabridged.retrievers.opened import Index

require("pydantic", extra="langchain", purpose="the fields of components of LangChain and LlamaIndex")

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_serializer  # noqa: E402 - see above


class StageFields(BaseModel):
    """The options of :class:`~unabridged.apps.integrations.framework_stages.SecondStage`, checked as they come.

    Saved as plain values, an index by its folder; a loaded ranker, selector or tokenizer cannot be.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    ranker: Any = None
    selector: Any = None
    top_n: int | None = Field(default=None, strict=True)
    budget: int | None = Field(default=None, strict=True)
    tokenizer: Any = DEFAULT_TOKENIZER
    sources: Any = None
    packing: Mapping[str, Any] | None = None
    _stage: SecondStage = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Checks the options together; nothing is loaded yet."""
        super().model_post_init(context)
        self._stage = SecondStage(**{name: getattr(self, name) for name in StageFields.model_fields})

    @field_serializer("sources")
    def _folder(self, sources: Any) -> Any:
        if isinstance(sources, (Index, Path)):
            return str(sources.folder if isinstance(sources, Index) else sources)
        return sources
