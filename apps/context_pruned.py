"""Candidates without the sentences that do not help: parts of passages, and a record of what was left out of them."""

from __future__ import annotations

import math
from dataclasses import replace

from unabridged.apps.context_files import Selected, tell_cost
from unabridged.errors import UsageError
from unabridged.rankers.context.stretches import Passed
from unabridged.rankers.select.contracts import Passage, Selector
from unabridged.rankers.select.pruning import PruneSettings, SentencePruner, Why
from unabridged.rankers.select.splitting import sentence_passages


def pruned(question: str, chosen: Selected, selector: Selector, threshold: float) -> Selected:
    """The sentences of the passages that score ``threshold`` or more by the selector, best passage first.

    Neighbours are one hit with the score of their best sentence.  :class:`UsageError` for a threshold that is no
    number.
    """
    if math.isnan(threshold):
        raise UsageError("The threshold of a sentence is not a number. Give a score of the selector.")
    if not chosen.pairs:
        return chosen
    passages = [passage for passage, _ in chosen.pairs]
    cut = [one for passage in passages for one in sentence_passages(passage.doc_id, passage.text)]
    if cut:
        tell_cost(question, cut, selector, "sentences")
    found = SentencePruner(selector, PruneSettings(threshold=threshold)).prune_all(question, passages)
    pairs: list[tuple[Passage, float | None]] = []
    passed = list(chosen.passed)
    for passage, one in zip(passages, found, strict=True):
        for start, end in one.spans:
            scores = [each.score for each in one.sentences if start <= each.start < end and each.score is not None]
            part = Passage(passage.doc_id, passage.start + start, passage.start + end, passage.text[start:end])
            pairs.append((part, max(scores, default=None)))
        passed += [
            Passed(
                passage.doc_id,
                passage.start + each.start,
                passage.start + each.end,
                each.reason if each.why is Why.UNSCORED and each.reason else each.why.value,
            )
            for each in one.sentences
            if not each.kept
        ]
    pairs.sort(key=lambda pair: (pair[1] is None, -(pair[1] or 0.0)))
    kept = sum(each.kept for one in found for each in one.sentences)
    spent = chosen.scored.spent + found[0].spent
    return replace(
        chosen,
        pairs=tuple(pairs),
        passed=tuple(passed),
        scored=replace(chosen.scored, spent=spent),
        sentences=(kept, sum(len(one.sentences) for one in found)),
    )
