"""Every error that unabridged raises on purpose.

::

    UnabridgedError                      exit code
    +-- UsageError (ValueError)              2   an option or argument does not fit
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
    |   +-- Overflow                             a text is longer than the window and the policy is "error"
    |   +-- EmptyIndex
    +-- RuntimeFailure (RuntimeError)        6   a backend failed

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


class Overflow(ValidationError):
    """A text does not fit the window and the policy says that this is an error."""


class EmptyIndex(ValidationError):
    """A search over an index that holds no document."""


class RuntimeFailure(UnabridgedError, RuntimeError):
    """A backend failed in a way that is not a resource problem."""
