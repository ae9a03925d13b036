"""The prompts that come with the package.  What is the same in every call stands first, for prefix caches."""

from __future__ import annotations

from collections.abc import Mapping

from unabridged.rankers.listwise.labels import Labels
from unabridged.rankers.listwise.templates import Template, Turn

_ORDER = (
    "You judge how well passages answer a search query. You are given a query and passages, each with an id in square "
    "brackets. Reply with the ids in order of relevance, the most relevant first: each id once, in its brackets, with "
    "> between two of them. Write nothing else."
)
_CHOOSE = (
    "You judge how well passages answer a search query. You are given lettered passages and a query. Reply with the "
    "letter of the passage that is most relevant to the query. Write nothing else."
)
_JUDGE = "You judge whether a document meets the need behind a search query. Reply yes or no. Write nothing else."

LISTWISE = Template(
    name="listwise",
    method="singleturn_listwise",
    opening=(Turn("system", _ORDER), Turn("user", "Query: {query}\n\n")),
    each=(Turn("user", "[{rank}] {candidate}\n\n"),),
    closing=(
        Turn(
            "user",
            "Query: {query}\n\nThese were {num} passages. Order them by relevance to the query and write the ids of "
            "the best {most}, the most relevant first, like {example_ordering}.",
        ),
    ),
)
"""All candidates in one turn, numbers in brackets."""

TURNS = Template(
    name="turns",
    method="multiturn_listwise",
    opening=(
        Turn("system", _ORDER),
        Turn("user", "Query: {query}\n\nI shall show you {num} passages, each with its id in square brackets."),
        Turn("assistant", "Please show me the passages."),
    ),
    each=(Turn("user", "[{rank}] {candidate}"), Turn("assistant", "I have read [{rank}].")),
    closing=(
        Turn(
            "user",
            "Query: {query}\n\nNow order the {num} passages by relevance to the query and write the ids of the best "
            "{most}, the most relevant first, like {example_ordering}.",
        ),
    ),
)
"""One turn for each candidate, for hosted models that were tuned on dialogues."""

LETTERED = Template(
    name="lettered",
    method="singleturn_listwise",
    opening=LISTWISE.opening,
    each=LISTWISE.each,
    closing=LISTWISE.closing,
    labels=Labels(letters=True),
)
"""Letters in brackets, for windows of at most 26: one position can order a window."""

CHOICE = Template(
    name="choice",
    method="singleturn_listwise",
    opening=(Turn("system", _CHOOSE), Turn("user", "Query: {query}\n\n")),
    each=(Turn("user", "Passage {rank}: {candidate}\n\n"),),
    closing=(
        Turn("user", "Query: {query}\n\nWhich of the {num} passages is the most relevant? Write its letter only."),
    ),
    labels=Labels(letters=True, brackets=False),
)
"""The best of a few, by its letter."""

YES_NO = Template(
    name="yes-no",
    method="pointwise",
    opening=(Turn("system", _JUDGE), Turn("user", "Query: {query}\n\n")),
    each=(Turn("user", "Document: {candidate}\n\n"),),
    closing=(Turn("user", "Does the document meet the need behind the query? Answer yes or no."),),
)
"""One candidate, judged alone."""

PROMPTS: Mapping[str, Template] = {one.name: one for one in (LISTWISE, TURNS, LETTERED, CHOICE, YES_NO)}
"""The templates by their names."""
