"""Small retrieval tasks in memory, and what mteb says of a model on them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from unabridged.apps.integrations.mteb_records import Records
from unabridged.apps.integrations.mteb_tasks import recorded

QUIET = {"batch_size": 32, "show_progress_bar": False}
VOCABULARY = [
    f"{a}{b}{c}" for a in ("bar", "fen", "lom", "tir") for b in "aeiou" for c in ("d", "kel", "mun", "rasp", "t")
]


def prose(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(VOCABULARY) for _ in range(words)) + "."


def split_data(seed: int, documents: int = 12, queries: int = 6, words: int = 40) -> dict[str, Any]:
    """Documents of random words; each question is a part of one of them with noise, so that nothing is nearly tied."""
    rng = random.Random(seed)
    corpus = {f"s{seed} d{n}": prose(rng, rng.randrange(words // 2, 2 * words)) for n in range(documents)}
    names = rng.sample(sorted(corpus), queries)
    asked = {f"s{seed} q{n}": " ".join([*corpus[name].split()[3:9], prose(rng, 3)]) for n, name in enumerate(names)}
    qrels = {query: {name: 1} for query, name in zip(asked, names, strict=True)}
    return {"corpus": corpus, "queries": asked, "qrels": qrels}


def task_class(splits: dict[str, dict[str, Any]], name: str = "MadeUpRetrieval", revision: str = "1") -> Any:
    """A task over ``splits``, as the library documents custom tasks."""
    from datasets import Dataset
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.task_metadata import TaskMetadata

    class MadeUp(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=name, description="words", reference=None, type="Retrieval", category="t2t", modalities=["text"],
            eval_splits=list(splits), eval_langs=["eng-Latn"], main_score="ndcg_at_10",
            dataset={"path": "none/none", "revision": revision}, date=("2020-01-01", "2020-12-31"), domains=["Written"],
            task_subtypes=[], license="not specified", annotations_creators="derived", dialect=[],
            sample_creation="created", bibtex_citation="",
        )  # fmt: skip

        def load_data(self, num_proc=None, **_):
            if self.data_loaded:
                return
            self.dataset = {"default": {}}
            for split, data in splits.items():
                self.dataset["default"][split] = {
                    "corpus": Dataset.from_list([{"id": k, "text": v, "title": ""} for k, v in data["corpus"].items()]),
                    "queries": Dataset.from_list([{"id": k, "text": v} for k, v in data["queries"].items()]),
                    "relevant_docs": {query: dict(own) for query, own in data["qrels"].items()},
                    "top_ranked": data.get("top_ranked"),
                }
            self.data_loaded = True

    return MadeUp


def evaluated(model: Any, task: Any, cache: Path | None = None, predictions: Path | None = None) -> dict[str, dict]:
    """Split -> all values of mteb."""
    import mteb

    result = mteb.evaluate(
        model,
        task,
        cache=None if cache is None else mteb.ResultCache(cache),
        encode_kwargs=dict(QUIET),
        show_progress_bar=False,
        prediction_folder=predictions,
        co2_tracker=False,
    )
    return {split: values[0] for split, values in result.task_results[0].scores.items()}


def measures(scores: dict[str, Any]) -> dict[str, float]:
    """The values that a ranking decides; the 105 of abstention depend on the size of scores, too."""
    return {name: value for name, value in scores.items() if "_at_" in name and not name.startswith("nauc")}


def made_up(splits: dict[str, dict[str, Any]], records: Records | None = None, **options: Any) -> Any:
    return recorded(task_class(splits, **options), records or Records(), {})()
