"""A ranking as plain values, and back: for files, for ``--output json`` and for the response cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from unabridged.contracts import JSON
from unabridged.errors import ValidationError
from unabridged.rankers.contracts import Characters, Exposure, Ranking, Spent, Status, Step
from unabridged.rankers.lm.contracts import Usage


def ranking_json(ranking: Ranking) -> dict[str, JSON]:
    """All of ``ranking``; :func:`ranking_from_json` undoes it."""
    return {
        "order": list(ranking.order),
        "status": ranking.status.value,
        "scores": None if ranking.scores is None else list(ranking.scores),
        "exposures": [exposure_json(one) for one in ranking.exposures],
        "steps": [step_json(step) for step in ranking.steps],
        "spent": spent_json(ranking.spent),
    }


def ranking_from_json(body: Mapping[str, Any]) -> Ranking:
    """The ranking; :class:`ValidationError` for values that are none."""
    try:
        return Ranking(
            tuple(body["order"]),
            Status(body["status"]),
            scores=None if body["scores"] is None else tuple(body["scores"]),
            exposures=tuple(_exposure(one) for one in body["exposures"]),
            steps=tuple(Step(one["round"], tuple(one["items"]), one["action"], one["reason"]) for one in body["steps"]),
            spent=Spent(**{**body["spent"], "usage": Usage(**body["spent"]["usage"])}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValidationError(f"The response cache holds a ranking that cannot be read ({error!r}).") from error


def exposure_json(one: Exposure) -> dict[str, JSON]:
    """What was shown of a candidate."""
    return {**asdict(one), "spans": _lists(one.spans), "best": _lists(one.best), "flags": list(one.flags)}


def step_json(step: Step) -> dict[str, JSON]:
    """What did not go as planned."""
    return {**asdict(step), "items": list(step.items)}


def spent_json(spent: Spent) -> dict[str, JSON]:
    """What was used; tokens under ``usage``."""
    return asdict(spent)


def _exposure(body: Mapping[str, Any]) -> Exposure:
    return Exposure(
        body["total"], body["shown"], _spans(body["spans"]), body["prompts"], tuple(body["flags"]), _spans(body["best"])
    )


def _lists(spans: tuple[Characters, ...]) -> list[list[int]]:
    return [list(span) for span in spans]


def _spans(lists: list[list[int]]) -> tuple[Characters, ...]:
    return tuple((int(start), int(end)) for start, end in lists)
