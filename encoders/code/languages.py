"""The programming languages that can be parsed: suffixes, grammar wheels, and the kinds of nodes that matter.

The grammars are tree-sitter's, one wheel for each language.  Kinds are the names of the grammars' own nodes.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

from unabridged._extras import require
from unabridged.errors import MissingExtra, UsageError

COMMENTS = frozenset({"comment", "line_comment", "block_comment", "html_comment"})
"""Kinds of nodes, of all grammars."""


@dataclass(frozen=True, slots=True)
class Language:
    """One language and its grammar."""

    name: str
    suffixes: tuple[str, ...]
    wheel: str
    """What pip calls the grammar."""
    definitions: frozenset[str]
    """Kinds of nodes that define something with a body, and of those that stand around one (decorators, exports)."""
    blocks: frozenset[str]
    """Kinds of nodes whose children are statements or definitions."""
    interpreters: tuple[str, ...] = ()
    """Programs that a first line ``#!`` may name."""
    function: str = "language"
    """The function of the wheel's module that gives the grammar."""
    prefixes: frozenset[str] = frozenset()
    """Kinds of nodes beside comments that belong to the definition behind them."""

    @property
    def module(self) -> str:
        """The wheel's module."""
        return self.wheel.replace("-", "_")

    @property
    def leading(self) -> frozenset[str]:
        """Kinds of nodes that go with what follows them."""
        return COMMENTS | self.prefixes


def _language(name: str, suffixes: str, *, definitions: str, blocks: str, **more: Any) -> Language:
    wheel = more.pop("wheel", f"tree-sitter-{name.replace('_', '-')}")
    kinds = frozenset(definitions.split()), frozenset(blocks.split())
    return Language(name, tuple(suffixes.split()), wheel, *kinds, **more)


_JS_DEFINITIONS = (
    "class_declaration class function_declaration generator_function_declaration method_definition function_expression "
    "generator_function arrow_function export_statement "
)
_JS_BLOCKS = "program class_body statement_block switch_body switch_case switch_default class_static_block "
_TS_DEFINITIONS = _JS_DEFINITIONS + (
    "abstract_class_declaration interface_declaration enum_declaration internal_module module type_alias_declaration "
    "ambient_declaration"
)
_TS_BLOCKS = _JS_BLOCKS + "interface_body enum_body object_type"
_C_BLOCKS = (
    "translation_unit compound_statement declaration_list field_declaration_list preproc_if preproc_ifdef "
    "preproc_else preproc_elif preproc_elifdef case_statement"
)
_C_DEFINITIONS = (
    "function_definition type_definition struct_specifier union_specifier enum_specifier linkage_specification "
)

_TABLE = (
    _language(
        "python",
        ".py .pyi .pyw",
        definitions="function_definition class_definition decorated_definition",
        blocks="module block",
        interpreters=("python", "python2", "python3", "pypy", "pypy3"),
    ),
    _language(
        "java",
        ".java",
        definitions="class_declaration interface_declaration enum_declaration record_declaration method_declaration "
        "annotation_type_declaration constructor_declaration compact_constructor_declaration",
        blocks="program class_body interface_body enum_body enum_body_declarations annotation_type_body block "
        "constructor_body switch_block switch_block_statement_group",
    ),
    _language(
        "javascript",
        ".js .mjs .cjs .jsx",
        definitions=_JS_DEFINITIONS,
        blocks=_JS_BLOCKS,
        interpreters=("node", "nodejs", "deno", "bun"),
    ),
    _language(
        "typescript",
        ".ts .mts .cts",
        definitions=_TS_DEFINITIONS,
        blocks=_TS_BLOCKS,
        function="language_typescript",
        interpreters=("ts-node", "tsx"),
    ),
    _language(
        "tsx",
        ".tsx",
        definitions=_TS_DEFINITIONS,
        blocks=_TS_BLOCKS,
        wheel="tree-sitter-typescript",
        function="language_tsx",
    ),
    _language(
        "go",
        ".go",
        definitions="function_declaration method_declaration type_declaration func_literal",
        blocks="source_file block statement_list",
    ),
    _language(
        "php",
        ".php .php3 .php4 .php5 .phtml .inc",
        definitions="class_declaration interface_declaration trait_declaration enum_declaration function_definition "
        "method_declaration namespace_definition anonymous_class anonymous_function",
        blocks="program compound_statement declaration_list enum_declaration_list switch_block colon_block "
        "case_statement",
        function="language_php",
        interpreters=("php",),
    ),
    _language(
        "ruby",
        ".rb .rake .gemspec .ru",
        definitions="method singleton_method class module singleton_class",
        blocks="program body_statement block_body then begin else ensure rescue",
        interpreters=("ruby", "jruby"),
    ),
    _language(
        "rust",
        ".rs",
        definitions="function_item impl_item trait_item struct_item enum_item union_item mod_item macro_definition "
        "foreign_mod_item",
        blocks="source_file declaration_list block match_block",
        prefixes=frozenset({"attribute_item"}),
    ),
    _language("c", ".c .h", definitions=_C_DEFINITIONS, blocks=_C_BLOCKS),
    _language(
        "cpp",
        ".cc .cpp .cxx .c++ .hh .hpp .hxx .h++ .ipp .tpp .cu .cuh",
        definitions=_C_DEFINITIONS + "class_specifier namespace_definition template_declaration concept_definition",
        blocks=_C_BLOCKS,
    ),
    _language(
        "c_sharp",
        ".cs .csx",
        definitions="class_declaration struct_declaration interface_declaration enum_declaration record_declaration "
        "namespace_declaration method_declaration constructor_declaration destructor_declaration "
        "operator_declaration conversion_operator_declaration indexer_declaration property_declaration "
        "local_function_statement",
        blocks="compilation_unit declaration_list block switch_body switch_section enum_member_declaration_list "
        "accessor_list",
    ),
)

LANGUAGES: Mapping[str, Language] = MappingProxyType({language.name: language for language in _TABLE})
"""Name -> language, in the order in which equally good guesses are taken."""

SUFFIXES: Mapping[str, Language] = MappingProxyType(
    {suffix: language for language in LANGUAGES.values() for suffix in language.suffixes}
)
"""Suffix of a file in lower case -> its language.  Headers ``.h`` are of C first: see :mod:`.detect`."""

NO_TAGS = "language_php_only"
"""The grammar of PHP for text without ``<?php``."""


def named(name: str) -> Language:
    """The language of that name; :class:`UsageError` if it is not among :data:`LANGUAGES`."""
    known = {"c#": "c_sharp", "csharp": "c_sharp", "c++": "cpp", "js": "javascript", "ts": "typescript", "py": "python"}
    found = LANGUAGES.get(known.get(name.lower(), name.lower()))
    if found is None:
        raise UsageError(f"language={name!r} is not among the languages with a grammar: {', '.join(LANGUAGES)}.")
    return found


@cache
def grammar(language: Language, function: str | None = None) -> Any:
    """The ``tree_sitter.Language``.

    Raises:
        MissingExtra: tree-sitter or the language's wheel is not installed; says the pip command.
    """
    tree_sitter = require("tree_sitter", extra="code", purpose="syntax trees of source code")
    if importlib.util.find_spec(language.module) is None:
        raise MissingExtra(
            f"The grammar of {language.name} is not installed. Install it with: pip install {language.wheel}, or all "
            'languages with: pip install "unabridged[code]"'
        )
    return tree_sitter.Language(getattr(importlib.import_module(language.module), function or language.function)())
