"""What a text of a language is likely to contain: cheap, and no more than a reason to try its grammar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

CUE_CHARACTERS = 1 << 16
"""Characters of a text in which cues are looked for."""
SPARSE = 2000
"""Characters for each cue, at most: code is dense with them, comments are not, and in prose a word is one by chance."""

_COMMENT_LINE = re.compile(r"^[ \t]*(?://|/?\*).*\n?", re.MULTILINE)
"""Lines of ``//`` and ``/* */``: a library's file may have ten for each one of code."""

_CUES: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "python": (
        r"^\s*(def \w+\(|class \w+.*:$|from [\w.]+ import |elif .*:$|except\b.*:$|with .*:$|for .* in .*:$|if .*:$)",
        r"^import [\w.]+( as \w+)?$|^\s*(return|raise|yield)\b[^;\n]*$|\bself\.",
    ),
    "java": (
        r"^import (static )?[\w.]+(\.\*)?;|^package [\w.]+;|\bSystem\.(out|err)\b|@Override\b|\bthrows \w+",
        r"\b(public|private|protected) (static |final |abstract )*[\w<>\[\], ]+ \w+ ?\(|\bnew \w+(<.*>)?\(",
        r"^(public |abstract |final )*(class|interface|enum|@interface) \w+.*\{$",
    ),
    "javascript": (
        r"\bfunction ?\w*\(|\b(const|let|var) [\w{\[][^:\n]* = |=> ?[({]|\brequire\(['\"]|\bmodule\.exports\b|[!=]==",
        r"\bconsole\.\w+\(|^export (default|const|function|class|\*|\{)|^(import|\}) .*from ['\"]|^import ['\"]",
    ),
    "typescript": (
        r"\binterface \w+ (extends \w+ )?\{|\w\??: (string|number|boolean|void|any|unknown)\b|\bas const\b",
        r"^(import type|declare|type \w+(<.{0,99}>)? =)|^export (type|interface|enum|abstract|declare)\b",
        r"\b(private|public|readonly) \w+:|\bimplements \w+|\bfunction \w*<",
        r"\): [\w.]+(<.{0,99}>)?(\[\])? ?[{;]|[(,] ?\w+\??: \w+[<,)\[]",
    ),
    "go": (
        r"^func (\(\w+ \*?\w+\) )?\w+\(|^package \w+$| := |\bif err != nil\b|^import \($|\bfmt\.\w+\(",
        r"^type \w+ struct",
    ),
    "php": (r"<\?php\b|\$this->|\$\w+ = |\bfunction \w+\(.*\$|\$\w+->\w+|\becho\b.*\$",),
    "ruby": (
        r"^\s*(def (self\.)?\w+[?!]?( ?\(.*\))?$|end$|module [A-Z]\w*$|class [A-Z]\w*( < [\w:]+)?$|attr_\w+ :)",
        r"^require(_relative)? ['\"]|\bdo( \|[\w, ]+\|)?$|\.each\b|\bunless ",
    ),
    "rust": (
        r"\bfn \w+(<.*>)?\(|\blet (mut )?\w+|\bimpl\b.*\{|\bpub (\(crate\) )?(fn|struct|enum|mod|use|trait)\b",
        r"\) -> \w+|^use [\w:]+(::\{.*\})?;|#!?\[\w+|\bmatch \w+ \{",
    ),
    "c": (
        r"^\s*#\s*(include|define|ifdef|ifndef|endif)\b|\b\w+->\w+|\b(malloc|sizeof|printf|memcpy)\(|\bstruct \w+ ?\{",
        r"^(static |const |unsigned |extern )*(int|void|char|struct \w+) \*?\w+",
    ),
    "cpp": (
        r"\bstd::|^#include <\w+>$|\btemplate ?<|\bnamespace \w* ?\{|^\s*(public|private|protected):$|\bvirtual ",
        r"\w::\w+\(|\bclass \w+( final)?( ?: ?public .*)? ?\{|\b(static|dynamic|const|reinterpret)_cast<|\bnullptr\b",
    ),
    "c_sharp": (
        r"^using (static )?[\w.]+;|^\s*namespace [\w.]+|\bget; |\bConsole\.\w+\(|\bvar \w+ = |\basync Task\b",
        r"\b(public|private|internal|protected) (static |override |async |readonly |sealed |partial |virtual )*"
        r"[\w<>\[\]?]+ \w+",
    ),
})  # fmt: skip


def likely(text: str, most: int) -> list[str]:
    """The names of at most ``most`` languages whose cues are frequent in ``text``, those with more of them first."""
    sample = _COMMENT_LINE.sub("", text[:CUE_CHARACTERS])
    counts = {name: sum(1 for _ in cue.finditer(sample)) for name, cue in _compiled().items()}
    frequent = (name for name, count in counts.items() if count * SPARSE >= max(1, len(sample)))
    return sorted(frequent, key=lambda name: -counts[name])[:most]


@cache
def _compiled() -> dict[str, re.Pattern[str]]:
    return {name: re.compile("|".join(parts), re.MULTILINE) for name, parts in _CUES.items()}
