"""Every error that unabridged raises on purpose.

::

    UnabridgedError                      exit code
    +-- UsageError (ValueError)              2   an option or argument does not fit
    |   +-- BudgetTooSmall                       not one span fits the tokens allowed; says how many are needed
    +-- MissingExtra (ImportError)           3   an optional package is absent; says the pip command
    +-- MissingFile (FileNotFoundError)      3   a path that was named does not exist
    +-- ResourceError (OSError)              4   memory, disk, or a lock that somebody else holds
    |   +-- IndexLocked
    |   +-- OutOfMemory
    |   +-- DiskFull
    +-- ValidationError (ValueError)         5   what was found is not what was expected
    |   +-- CorpusError                          malformed line, duplicate id, empty corpus
    |   +-- DuplicateId
    |   +-- ShapeError                           wrong shape, dtype, NaN or infinity in vectors
    |   +-- ManifestMismatch                     corrupt, foreign or truncated index folder
    |   +-- PassportMismatch                     another encoder than the index was built with
    |   +-- SourceChanged                        a source text is not the one that was indexed
    |   +-- Overflow                             a text is longer than the window and the policy is "error"
    |   +-- EmptyIndex
    |   +-- BackendMismatch                      a search engine's collection is not ours, or not of this index
    +-- RuntimeFailure (RuntimeError)        6   a backend failed
        +-- BackendUnreachable                   a search engine does not answer; says host and port
        +-- ModelError                             a language model gave no answer
            +-- AuthFailed                         the server does not accept the key
            +-- BadRequest                         the server does not accept the request
            +-- RateLimited                        too many requests; says when the next may be sent
            +-- ContextOverflow                    the prompt is longer than the model's context
            +-- ContentFiltered                    the server withheld the answer, or the model refused
            +-- ModelTimeout                       no answer in time
            +-- ServerUnavailable                  5xx, no connection, or a connection that broke
            +-- MalformedResponse                  an answer that is not what the protocol says
            +-- LimitReached                       the calls, tokens or money allowed are used up
            +-- AnswerBroken                       an answer broke off in the middle; has what had come
            +-- ModelCancelled                     the caller took the call back

Exit code 7 (partial success) is not an error: it is returned when some items failed and the rest is done.
Each message names the value that was found, the value that was expected, and the next step.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_PARTIAL = 7


class UnabridgedError(Exception):
    """Root of the tree; ``exit_code`` is what the command line returns for it."""

    exit_code = 6


class UsageError(UnabridgedError, ValueError):
    """An option or argument that cannot be what was meant."""

    exit_code = 2


class BudgetTooSmall(UsageError):
    """Not one span fits; ``smallest`` is the smallest budget, in tokens, with which one would."""

    def __init__(self, message: str, *, smallest: int) -> None:
        super().__init__(message)
        self.smallest = smallest


class MissingExtra(UnabridgedError, ImportError):
    """An optional package is not installed; the message has the exact pip command."""

    exit_code = 3


class MissingFile(UnabridgedError, FileNotFoundError):
    """A file or folder that was named does not exist or cannot be read."""

    exit_code = 3


class ResourceError(UnabridgedError, OSError):
    """Memory, disk or a lock is not to be had."""

    exit_code = 4


class IndexLocked(ResourceError):
    """Another process is writing this index folder."""


class OutOfMemory(ResourceError):
    """A single item does not fit into memory even when it is alone in its batch."""


class DiskFull(ResourceError):
    """The disk has no room left; what was finished is kept and the same command continues."""


class ValidationError(UnabridgedError, ValueError):
    """What was found is not what was expected."""

    exit_code = 5


class CorpusError(ValidationError):
    """A corpus, query file or field that cannot be read as what it says it is."""


class DuplicateId(CorpusError):
    """Two documents of one corpus share an id."""


class ShapeError(ValidationError):
    """An array of the wrong shape or dtype, or with NaN or infinite values."""


class ManifestMismatch(ValidationError):
    """An index folder whose files are not the ones its manifest describes."""


class PassportMismatch(ValidationError):
    """The encoder at hand is not the one the index was built with."""


class SourceChanged(ValidationError):
    """A source text is not the one that was indexed, so that spans of it say nothing."""


class Overflow(ValidationError):
    """A text does not fit the window and the policy says that this is an error."""


class EmptyIndex(ValidationError):
    """A search over an index that holds no document."""


class BackendMismatch(ValidationError):
    """A search engine's collection is not ours, is of another state of the index, or was not loaded to its end."""


class RuntimeFailure(UnabridgedError, RuntimeError):
    """A backend failed in a way that is not a resource problem."""


class BackendUnreachable(RuntimeFailure):
    """A search engine does not answer, or does not let us in.  The text has no password."""


class ModelError(RuntimeFailure):
    """A language model gave no answer.  The text is for people; it is never read as an answer."""


class AuthFailed(ModelError):
    """The server does not accept the key, or there is none."""


class BadRequest(ModelError):
    """The server does not accept the request, and would not accept it again."""


class RateLimited(ModelError):
    """Too many requests; ``retry_after`` is seconds until the next may be sent, None where that is not said."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ContextOverflow(ModelError):
    """Prompt and answer do not fit: ``limit`` and ``got`` are tokens, None where a server does not say."""

    def __init__(self, message: str, *, limit: int | None = None, got: int | None = None) -> None:
        super().__init__(message)
        self.limit = limit
        self.got = got


class ContentFiltered(ModelError):
    """The server withheld the answer, or the model refused by the protocol's own field for it."""


class ModelTimeout(ModelError):
    """No answer in time."""


class ServerUnavailable(ModelError):
    """The server cannot answer at the moment, cannot be reached, or broke the connection."""


class MalformedResponse(ModelError):
    """The server's answer is not what the protocol says."""


class LimitReached(ModelError):
    """A limit on calls, tokens or cost is used up; no request was sent."""


class AnswerBroken(ModelError):
    """An answer broke off; ``partial`` is what had come of it, and the cause says why."""

    def __init__(self, message: str, *, partial: str) -> None:
        super().__init__(message)
        self.partial = partial


class ModelCancelled(ModelError):
    """The caller took the call back before there was an answer."""
