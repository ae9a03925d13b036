"""Equal texts under several ids: how many there are, and a score that does not depend on which of them was judged.

With k copies of which one is judged, nDCG is luck: in random order its mean is (1/k) sum_{i <= k} 1 / log2(i + 1).
The score over collapsed lists is a number beside the usual one, never in its place.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from unabridged.contracts import Document, Failure
from unabridged.eval._ranking import rank
from unabridged.eval.measures import AnyRun
from unabridged.eval.trec import Qrels


def text_key(text: str) -> bytes:
    """16 bytes that equal texts share: BLAKE2b of their UTF-8."""
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def duplicate_share(texts: Iterable[str]) -> float:
    """Texts that an earlier one equals / all texts; in [0, 1), 0 without any text."""
    count = 0
    keys: set[bytes] = set()
    for text in texts:
        count += 1
        keys.add(text_key(text))
    return 1 - len(keys) / count if count else 0.0


def text_keys(documents: Iterable[Document | Failure]) -> dict[str, bytes]:
    """Document id -> the key of its source (title and text); what could not be read has none."""
    return {one.id: text_key(one.source) for one in documents if isinstance(one, Document)}


def collapse(run: AnyRun, qrels: Qrels, keys: Mapping[str, bytes]) -> tuple[dict[str, dict[str, float]], Qrels]:
    """Run and judgements in which every text occurs once, to be evaluated like any others.

    Of the copies in a list the first one stays, with its score; a judgement of any copy is one of all of them, and
    the highest grade counts.  A document without a key is a text of its own.  When one text is judged, no value of
    a measure is below that of the run as it is.

    Raises what :func:`unabridged.eval.measures.evaluate` raises for scores and documents.
    """
    lists: dict[str, dict[str, float]] = {}
    judged: dict[str, dict[str, int]] = {}
    for query, found in run.items():
        scores = dict(found)
        first: dict[bytes | str, str] = {}
        for document in rank(query, found).documents:
            first.setdefault(keys.get(document, document), document)
        lists[query] = {document: scores[document] for document in first.values()}
        if query in qrels:
            judged[query] = _collapsed(qrels[query], keys, first)
    rest = {query: _collapsed(grades, keys, {}) for query, grades in qrels.items() if query not in judged}
    return lists, {**judged, **rest}


def _collapsed(
    grades: Mapping[str, int], keys: Mapping[str, bytes], first: Mapping[bytes | str, str]
) -> dict[str, int]:
    """One grade per text, under the id that the list has for it."""
    names: dict[bytes | str, str] = dict(first)
    out: dict[str, int] = {}
    for document, grade in sorted(grades.items()):
        name = names.setdefault(keys.get(document, document), document)
        out[name] = max(grade, out.get(name, grade))
    return out
