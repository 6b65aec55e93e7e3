"""The head of given weights: rows of the classes that it and ours both have.

The last layer of a head has a row for each class. Most heads are that layer alone; dpt's has others before.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from flair_baseline.initial.classes import OURS, find_classes, match_classes
from flair_baseline.initial.given import Given
from flair_baseline.initial.layouts import KIT
from flair_baseline.initial.matching import DECODER, HEAD, part_of
from flair_baseline.initial.table import Outcome


def adapt_head(outcome: Outcome, given: Given, ours: Mapping[str, Tensor], reasons: dict[str, str]) -> None:
    """Take the rows of the head by the names of their classes into `outcome`.

    Where the head cannot be taken, `reasons` gets the reason: the decoder before it is another one, or its
    classes are not known.
    """
    names = [name for name in ours if part_of(name) == HEAD]
    theirs = {name: given.named.tensors[name] for name in names if name in given.named.tensors}
    if len(theirs) < len(names):
        reasons[HEAD] = "the file has none"
        return
    if DECODER in reasons:
        reasons[HEAD] = "so is the decoder before it"
        return
    last = names[-1].rpartition(".")[0]
    by_class = [name for name in names if name.startswith(f"{last}.")]
    shapes = [(theirs[name].shape, ours[name].shape, name in by_class) for name in names]
    if any(one[rows:] != own[rows:] for one, own, rows in shapes):
        reasons[HEAD] = "the file's has another shape"
        return
    order = given.start.order or given.named.layout.order
    rows = theirs[by_class[0]].shape[0]
    classes = find_classes(rows, order)
    if classes is None:
        reasons[HEAD] = f"the file's has {rows} classes, and the order {order} has no list of so many"
        return
    pairs = match_classes(classes)
    for name in names:
        if classes == OURS or name not in by_class:
            outcome.loaded[name] = theirs[name].to(ours[name].dtype)
        else:
            taken = ours[name].clone()
            for index, row in pairs.items():
                taken[index] = theirs[name][row].to(taken)
            outcome.adapted[name] = taken
    if classes == OURS and given.named.layout is KIT:
        return  # nothing to tell
    told = f"classes: {rows} in the file, read in the order {order}; {len(pairs)} have the name of one here"
    if anew := [name for index, name in enumerate(OURS) if index not in pairs]:
        told += f"; drawn anew: {', '.join(anew)}"
    if unused := [name for name in classes if name not in OURS]:
        told += f"; left over: {', '.join(unused)}"
    outcome.notes.append(told)
