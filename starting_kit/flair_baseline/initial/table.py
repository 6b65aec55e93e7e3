"""What became of given weights: the table on the screen, and the same as plain values for model.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

_SHOWN = 3  # names in a row of the table


@dataclass
class Outcome:
    """Where the tensors of our network come from.

    Args:
        file: Name of the file, its SHA-256, and the layout of its names.
        loaded: Taken as they are, by name here.
        adapted: Taken with changes, which `notes` explain.
        drawn: Ours, for which the file has none.
        left: The file's, for which we have no use.
        notes: Sentences on bands, pixels, classes and parts.
    """

    file: str
    sha256: str
    layout: str
    loaded: dict[str, Tensor] = field(default_factory=dict)
    adapted: dict[str, Tensor] = field(default_factory=dict)
    drawn: dict[str, Tensor] = field(default_factory=dict)
    left: dict[str, Tensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def adapt(self, name: str, tensor: Tensor) -> None:
        """Take a tensor with changes."""
        self.loaded.pop(name, None)
        self.adapted[name] = tensor

    def taken(self, name: str) -> Tensor:
        """A tensor as it is taken so far."""
        return self.adapted[name] if name in self.adapted else self.loaded[name]

    def rows(self) -> dict[str, Mapping[str, Tensor]]:
        """Title -> tensors, in the order of the table."""
        return {
            "loaded": self.loaded,
            "adapted": self.adapted,
            "drawn anew": self.drawn,
            "left over": self.left,
        }

    def record(self) -> dict[str, Any]:
        """Plain values for the provenance of a run."""
        counts = {title.replace(" ", "_"): _count(tensors) for title, tensors in self.rows().items()}
        head = {"file": self.file, "sha256": self.sha256, "layout": self.layout}
        return head | counts | {"notes": list(self.notes)}

    def __str__(self) -> str:
        lines = [f"weights from {self.file} ({self.layout}; SHA-256 {self.sha256[:12]}…)"]
        lines.append(f"  {'':<11}{'tensors':>8}{'numbers':>14}")
        for title, tensors in self.rows().items():
            count = _count(tensors)
            names = ", ".join(list(tensors)[:_SHOWN]) + (" …" if len(tensors) > _SHOWN else "")
            lines.append(f"  {title:<11}{count['tensors']:>8,}{count['numbers']:>14,}  {names}".rstrip())
        return "\n".join([*lines, *(f"  {note}" for note in self.notes)])


def _count(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {"tensors": len(tensors), "numbers": sum(tensor.numel() for tensor in tensors.values())}
