"""Definition of a function, method or class in a parsed module, and the pattern columns that are derived from it."""

import ast
import doctest
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from mccabe import PathGraphingAstVisitor

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
DefinitionNode = FunctionNode | ast.ClassDef

MAX_TAGS = 64
MAX_TAG_CHARACTERS = 100


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition and its position; `first_line` to `last_line` (from 1) include its decorators."""

    node: DefinitionNode
    qualname: str
    in_class: bool
    first_line: int
    last_line: int
    code: str

    @property
    def pattern_type(self) -> str:
        """One of `class`, `method` (also an async one), `async_function` and `function`."""
        if isinstance(self.node, ast.ClassDef):
            return "class"
        if self.in_class:
            return "method"
        return "async_function" if isinstance(self.node, ast.AsyncFunctionDef) else "function"

    def tags(self) -> list[str]:
        """Return the tags: the kind of code, then the last name of each decorator."""
        node, name = self.node, self.node.name
        decorators = [dotted.rpartition(".")[2] for dotted in map(_dotted, node.decorator_list) if dotted]
        kinds = {
            "async": isinstance(node, ast.AsyncFunctionDef),
            "generator": "yield" in self.code and _is_generator(node),
            "typed": self._is_typed(implicit_first=self.in_class and "staticmethod" not in decorators),
            "private": name.startswith("_") and not (name.startswith("__") and name.endswith("__")),
            "documented": bool(ast.get_docstring(node, clean=False)),
            "decorated": bool(node.decorator_list),
        }
        tags = [tag for tag, present in kinds.items() if present] + decorators
        return list(dict.fromkeys(tag[:MAX_TAG_CHARACTERS] for tag in tags))[:MAX_TAGS]

    def _is_typed(self, *, implicit_first: bool) -> bool:
        if isinstance(self.node, ast.ClassDef) or self.node.returns is None:
            return False
        arguments = _arguments(self.node)
        return all(argument.annotation for argument in (arguments[1:] if implicit_first else arguments))

    def details(self) -> dict[str, Any]:
        """Return the context of this kind of definition: a function's arguments, or a class's bases and methods."""
        if not isinstance(self.node, ast.ClassDef):
            return {"arguments": [argument.arg for argument in _arguments(self.node)]}
        methods = [member.name for member in _members(self.node) if not isinstance(member, ast.ClassDef)]
        bases = [dotted for dotted in map(_dotted, self.node.bases) if dotted]
        return {"bases": bases, "methods": list(dict.fromkeys(methods))}

    def documentation(self) -> tuple[str | None, str | None]:
        """Return the docstring's first paragraph and its doctest examples, each None if there is none."""
        docstring = storable(ast.get_docstring(self.node) or "").strip()
        return re.split(r"\n\s*\n", docstring, maxsplit=1)[0].rstrip() or None, _examples(docstring) or None

    def complexity(self) -> int:
        """Return McCabe's cyclomatic complexity, at least 1; for a class that of its most complex method."""
        if not isinstance(self.node, ast.ClassDef):
            return _complexity(self.node)
        return max(map(_complexity, _members(self.node)), default=1)


def definitions(scope: ast.Module | ast.ClassDef, lines: list[str], prefix: str = "") -> Iterator[Definition]:
    """Yield every definition in source order, also under `if` or `try`, but none that is local to a function.

    `lines` is the source split at newlines alone: for the parser a form feed or U+2028 does not end a line.
    """
    for node in _members(scope):
        first, last = _first_line(node, lines), node.end_lineno or node.lineno
        code = _source(node, lines[first - 1 : last], first)
        yield Definition(node, prefix + node.name, isinstance(scope, ast.ClassDef), first, last, code)
        if isinstance(node, ast.ClassDef):
            yield from definitions(node, lines, f"{prefix}{node.name}.")


def storable(text: str) -> str:
    """Return the text with escapes in place of NUL and lone surrogates, which PostgreSQL cannot store."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def _members(scope: ast.AST) -> Iterator[DefinitionNode]:
    blocks = (ast.stmt, ast.excepthandler, ast.match_case)
    pending = [scope]
    while pending:  # no recursion: a chain of a thousand elif is nested a thousand deep
        node = pending.pop()
        if isinstance(node, DefinitionNode) and node is not scope:
            yield node
        else:
            pending.extend(reversed([child for child in ast.iter_child_nodes(node) if isinstance(child, blocks)]))


def _arguments(node: FunctionNode) -> list[ast.arg]:
    """Return every parameter in the order of the signature, `*args` and `**kwargs` among them."""
    spec = node.args
    return list(filter(None, [*spec.posonlyargs, *spec.args, spec.vararg, *spec.kwonlyargs, spec.kwarg]))


def _complexity(node: DefinitionNode) -> int:
    visitor = _ComplexityVisitor()
    visitor.preorder(node, visitor)
    return max((int(graph.complexity()) for graph in visitor.graphs.values()), default=1)


class _ComplexityVisitor(PathGraphingAstVisitor):  # type: ignore[misc]  # mccabe has no type hints
    """mccabe's visitor, which knows neither `match` nor `except*` and recurses once per `elif`."""

    visitTryStar = PathGraphingAstVisitor.visitTryExcept  # noqa: N815

    def visitIf(self, node: ast.If) -> None:  # noqa: N802
        """Count `if ... elif ... else` as one branching, which gives the same number without the recursion."""
        chain = [node]
        while len(chain[-1].orelse) == 1 and isinstance(follower := chain[-1].orelse[0], ast.If):
            chain.append(follower)
        self._branch(node, chain, chain[-1].orelse)

    def visitMatch(self, node: ast.Match) -> None:  # noqa: N802
        """Count a `case _` as an `else`, and any other case as one more way."""
        *others, last = node.cases
        bare = isinstance(last.pattern, ast.MatchAs) and last.pattern.pattern is None and last.guard is None
        self._branch(node, others if bare and others else node.cases, last.body if bare and others else [])

    def _branch(self, node: ast.stmt, ways: Any, otherwise: list[ast.stmt]) -> None:
        block = SimpleNamespace(lineno=node.lineno, col_offset=node.col_offset, body=ways[0].body, orelse=otherwise)
        self._subgraph(block, f"Branch {node.lineno}", extra_blocks=ways[1:])


def _first_line(node: DefinitionNode, lines: list[str]) -> int:
    if not node.decorator_list:
        return node.lineno
    line = node.decorator_list[0].lineno
    while line > 1 and not lines[line - 1].lstrip().startswith("@"):
        line -= 1  # `@(` may stand alone on the line above the expression
    return line


def _source(node: DefinitionNode, lines: list[str], first_line: int) -> str:
    """Return the code without the definition's own indentation, except in lines where that would change a string.

    `textwrap.dedent` would change it, or stop at a line in a string that is indented less than the code.
    """
    code = "\n".join(lines)
    margin = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    if not margin:
        return code
    spans_lines = any(mark in code for mark in ('"""', "'''", "\\\n"))
    kept = set(_string_lines(node, lines, first_line)) if spans_lines else set()
    indent = margin.rpartition("\f")[2]
    numbered = enumerate(lines[1:], first_line + 1)
    rest = [line if number in kept else line.removeprefix(indent) for number, line in numbered]
    return "\n".join([lines[0].lstrip(), *rest])


def _string_lines(node: DefinitionNode, lines: list[str], first_line: int) -> Iterator[int]:
    """Yield the numbers of the lines that begin inside a string, without docstrings, which are indented like code."""
    docstrings: set[ast.expr] = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Expr):
            docstrings.add(child.value)
        elif isinstance(child, ast.Constant | ast.JoinedStr) and child not in docstrings:
            start, end = child.lineno, child.end_lineno or child.lineno
            text = "\n".join(lines[start - first_line : end - first_line + 1]) if end > start else ""
            if '"""' in text or "'''" in text or "\\\n" in text:  # else adjacent strings, a line each
                yield from range(start + 1, end + 1)


def _is_generator(node: DefinitionNode) -> bool:
    pending: list[ast.AST] = list(node.body) if not isinstance(node, ast.ClassDef) else []
    while pending:
        child = pending.pop()
        if isinstance(child, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(child, DefinitionNode | ast.Lambda):
            pending.extend(ast.iter_child_nodes(child))
    return False


def _dotted(node: ast.expr) -> str | None:
    """Return `a.b` for the expressions `a.b`, `a.b(...)` and `a.b[...]`; None for one that has no such name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute | ast.Call | ast.Subscript):
        if isinstance(node, ast.Attribute):
            names.append(node.attr)
        node = node.func if isinstance(node, ast.Call) else node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else None


def _examples(docstring: str) -> str:
    try:
        examples = doctest.DocTestParser().get_examples(docstring) if ">>>" in docstring else []
    except ValueError:  # looks like a session but is indented or marked wrongly
        return ""
    return "".join(
        ">>> " + "\n... ".join(example.source.rstrip("\n").split("\n")) + "\n" + example.want for example in examples
    ).rstrip()
