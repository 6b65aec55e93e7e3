"""Collects the kit's error messages from its sources, without causing the errors."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILLED_IN = "{}"
# Words of Python and its libraries that do not help a user
_NOT_OURS = re.compile(
    r"Traceback|\bobject has no attribute\b|\bNoneType\b|\binvalid literal\b|\bnot subscriptable\b|<class '"
    r"|\bunhashable\b|\bunexpected keyword argument\b|\bcodec can't decode\b|<[\w.]+ object at 0x"
    r"|\b(?:Type|Value|Key|Index|Attribute|Unicode\w*|Assertion|OS|Permission|FileNotFound|Recursion)Error\b"
)
_MANY = 24  # variants of one message that are looked at


@dataclass(frozen=True)
class Message:
    """A message in the sources: `text` has {} where something is filled in.

    `foreign`: one of the things filled in is the text of an exception that the kit did not word.
    """

    file: str
    line: int
    function: str
    text: str
    foreign: bool


def count_sentences(text: str) -> int:
    """A sentence ends with a full stop, and the next one begins with a capital letter."""
    return len(re.findall(r"[.!?…]\s+(?=[A-Z])", text.strip())) + 1


def find_faults(said: str) -> list[str]:
    """What is wrong with a printed message; each line is judged for itself."""
    faults = [f"{found.group()!r} is not in our words" for found in _NOT_OURS.finditer(said)]
    for line in said.splitlines():
        if (sentences := count_sentences(line)) > 3:
            faults.append(f"{sentences} sentences: {line}")
    return faults


def read_messages(folder: Path, own_errors: set[str]) -> Iterator[Message]:
    """The messages of all errors that are raised below the folder, and all entries of lists of problems.

    `own_errors` are the names of the exceptions whose text the kit has worded.
    """
    for path in sorted(folder.rglob("*.py")):
        tree = ast.parse(path.read_text())
        yield from _Reader(path, tree, own_errors).read()


class _Reader:
    def __init__(self, path: Path, tree: ast.Module, own_errors: set[str]) -> None:
        self._path, self._tree, self._own = path, tree, own_errors
        self._parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self._values: dict[ast.AST, dict[str, list[ast.expr]]] = {}

    def read(self) -> Iterator[Message]:
        for node in ast.walk(self._tree):
            for expression in self._said(node):
                function = getattr(next(self._scopes(expression)), "name", "")
                foreign = self._is_foreign(expression, ())
                for text in dict.fromkeys(self._render(expression, ())):
                    yield Message(self._path.name, expression.lineno, function, text, foreign)

    def _said(self, node: ast.AST) -> list[ast.expr]:
        """The message in a node, if it raises an error of ours or adds to a list of problems."""
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            # The ValueErrors of our functions become part of a sentence where they are caught
            worded = self._own | {"ValueError"}
            return node.exc.args[:1] if ast.unparse(node.exc.func) in worded else []
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
            return node.args if "problem" in ast.unparse(node.func.value) else []
        if isinstance(node, ast.AugAssign) and "problem" in ast.unparse(node.target):
            return node.value.elts if isinstance(node.value, ast.List) else []
        return []

    def _render(self, node: ast.expr, seen: tuple[str, ...]) -> list[str]:
        """The texts that an expression may have."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return [node.value]
        if isinstance(node, ast.JoinedStr):
            parts = [
                self._render(part.value if isinstance(part, ast.FormattedValue) else part, seen)
                for part in node.values
            ]
            return ["".join(texts) for texts in itertools.islice(itertools.product(*parts), _MANY)]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            sides = itertools.product(self._render(node.left, seen), self._render(node.right, seen))
            return ["".join(texts) for texts in itertools.islice(sides, _MANY)]
        if isinstance(node, ast.IfExp):
            return self._render(node.body, seen) + self._render(node.orelse, seen)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "list_problems":
            return [f"{title} (2 problems):" for title in self._render(node.args[0], seen)]
        if isinstance(node, ast.Name) and node.id not in seen:
            assigned = self._assigned(node)
            texts = [text for value in assigned for text in self._render(value, (*seen, node.id))]
            return texts[:_MANY] or [FILLED_IN]
        return [FILLED_IN]

    def _assigned(self, name: ast.Name) -> list[ast.expr]:
        """What a name is set to in its function, else in its module."""
        for scope in self._scopes(name):
            if scope not in self._values:
                self._values[scope] = values = {}
                for node in ast.walk(scope):
                    for target in node.targets if isinstance(node, ast.Assign) else ():
                        if isinstance(target, ast.Name):
                            values.setdefault(target.id, []).append(node.value)
            if name.id in self._values[scope]:
                return self._values[scope][name.id]
        return []

    def _scopes(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self._parents:
            node = self._parents[node]
            if isinstance(node, ast.FunctionDef | ast.Module):
                yield node

    def _is_foreign(self, node: ast.expr, seen: tuple[str, ...]) -> bool:
        """Whether the text of an exception that is not ours becomes part of the message."""
        for name in ast.walk(node):
            if not isinstance(name, ast.Name) or name.id in seen:
                continue
            handler = self._handler(name)
            if handler is not None:
                if not (handler.type and self._names(handler.type) <= self._own):
                    return True
            elif any(self._is_foreign(value, (*seen, name.id)) for value in self._assigned(name)):
                return True
        return False

    def _handler(self, name: ast.Name) -> ast.ExceptHandler | None:
        """The `except … as name` that the name stands in."""
        node: ast.AST = name
        while node in self._parents:
            node = self._parents[node]
            if isinstance(node, ast.ExceptHandler) and node.name == name.id:
                return node
        return None

    @staticmethod
    def _names(types: ast.expr) -> set[str]:
        return {node.id for node in ast.walk(types) if isinstance(node, ast.Name)}
