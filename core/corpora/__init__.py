"""Corpora: many formats to one stream of documents, and what is known of a corpus before it is encoded.

Sources are resolved (``_read``, ``_folders``), each file gets a reader by its format (``_readers``), and all
readers meet in one place that turns fields into a document or the record of a failure (``_fields``).
"""

from unabridged.corpora._code import code_title
from unabridged.corpora._folders import Skipped
from unabridged.corpora._listed import ListCorpus
from unabridged.corpora._queries import Query, read_qrels, read_queries
from unabridged.corpora._read import FileCorpus, read_corpus
from unabridged.corpora._scan import Sampled, Scan, scan

__all__ = [
    "FileCorpus",
    "ListCorpus",
    "Query",
    "Sampled",
    "Scan",
    "Skipped",
    "code_title",
    "read_corpus",
    "read_qrels",
    "read_queries",
    "scan",
]
