"""BM25 over immutable folders of postings, with statistics that are applied when a query runs.

bm25s multiplies IDF and average length into its matrix while it indexes, which makes its queries fast and
its index closed: one more document changes every number in it.  Here a folder holds only what never
changes (which segment has which term how often), and N, the average length and the document frequencies
are taken over all folders and all living documents when a term is first asked for.  So documents may be
added and deleted in any order and the scores are those of an index built from the survivors at once.

One posting list serves both granularities.  Its rows are segments; a document's term frequency is the sum
over its segments, because the segments of a document partition its tokens.

::

    Analyzer        text -> terms                                       analyzer.py
    LexicalWriter   texts -> one folder, in bounded memory              writer.py, runs.py, merge.py
    LexicalFolder   one folder, memory-mapped                           folder.py
    Collection      folders + living documents -> N, df, lengths        collection.py
    VARIANTS        (tf, length, df, N) -> contribution                 variants.py
    Scorer          query terms -> best rows                            scorer.py, topk.py
    LexicalIndex    the face of it all                                  searcher.py
"""

from unabridged.index.lexical.analyzer import Analyzer
from unabridged.index.lexical.searcher import LexicalIndex, LexicalStats
from unabridged.index.lexical.variants import VARIANTS, Variant
from unabridged.index.lexical.writer import LexicalWriter

__all__ = ["VARIANTS", "Analyzer", "LexicalIndex", "LexicalStats", "LexicalWriter", "Variant"]
