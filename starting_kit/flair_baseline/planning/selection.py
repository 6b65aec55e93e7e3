"""Chooses members, views and weights of an ensemble: greedy steps that must gain on held-out domains.

A step adds a member, gives a member other views or another weight, or takes a member away. All steps that
stay within the budget of time are tried. A step is taken only if choosing it without a domain, for each
domain in turn, gains on the domains that were left out (leave-one-domain-out cross-validation).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flair_baseline.model.views import VIEWS
from flair_scoring import mean_iou

CLASSES = 13  # those of the models: the 12 scored ones and *other*
WEIGHTS = (0.5, 1.0, 2.0)  # tried for a new member; those of present members are halved and doubled
MIN_DOMAINS = 3  # fewer cannot tell whether a step gains elsewhere
LEAST_GAIN = 1e-4  # mIoU on held-out domains
MOST_STEPS = 20
EVERY = "d4"  # the set of all views

Key = tuple[str, str]  # name of a member, name of its set of views
# Member -> its views and its weights: one number, or one for each class
State = Mapping[str, tuple[str, tuple[float, ...]]]
# Whether a state may be chosen, apart from its time
Allow = Callable[[State], bool]
# States -> confusion matrices of the domains, int64 (states, domains, 13, 13)
Evaluate = Callable[[Sequence[State]], np.ndarray]


@dataclass(frozen=True)
class Step:
    """A state of the search: its mIoU on all domains, its cost, and its gain on held-out domains.

    `ended` is a sentence if no ensemble was tried after this state although some fit.
    """

    state: State
    miou: float
    cost: float
    held_out_gain: float | None
    ended: str = ""


def state_cost(state: State, costs: Mapping[Key, float]) -> float:
    """The predicted time ratio of an ensemble: the sum over its members.

    Alone and without further views, a model chooses its labels by its logits. In an ensemble it computes
    probabilities, as each of its eight views does: there it costs at least an eighth of them.
    """
    chosen = [(name, views) for name, (views, _) in state.items()]
    if len(chosen) == 1:
        return costs[chosen[0]]
    shares = {views: len(VIEWS[views]) / len(VIEWS[EVERY]) for _, views in chosen}
    return sum(max(costs[key], shares[key[1]] * costs.get((key[0], EVERY), 0.0)) for key in chosen)


def select(
    costs: Mapping[Key, float],
    budget: float,
    evaluate: Evaluate,
    class_weights: bool = False,
    allow: Allow = lambda state: True,
) -> tuple[list[Step], list[Step]]:
    """The single members within the budget, best first, and the steps of the best search, the choice last.

    `costs` are time ratios; only states that `allow` accepts are tried. The search starts at each member
    alone, and the best end counts. With fewer than MIN_DOMAINS domains the choice is the best single member;
    if that leaves ensembles untried, a note on stderr and the step say so. The first list is empty when
    nothing fits.
    """
    singles: list[State] = [
        {name: (views, (1.0,))} for (name, views), cost in costs.items() if cost <= budget
    ]
    singles = list(filter(allow, singles))
    if not singles:
        return [], []
    matrices = evaluate(singles)
    steps = [
        Step(state, _miou(one), state_cost(state, costs), None)
        for state, one in zip(singles, matrices, strict=True)
    ]
    order = sorted(range(len(steps)), key=lambda index: -steps[index].miou)
    ranked = [steps[index] for index in order]
    if (domains := matrices.shape[1]) < MIN_DOMAINS:
        moves = _Search(costs, budget, evaluate, class_weights, allow).moves
        if not any(len(move) > 1 for state in singles for move in moves(state)):
            return ranked, ranked[:1]
        ended = (
            f"No ensemble was tried: the search had patches from {domains} "
            f"domain{'s' if domains > 1 else ''}, and it needs {MIN_DOMAINS} or more to tell whether an "
            "ensemble also gains elsewhere."
        )
        print(f"note: {ended}", file=sys.stderr)
        return ranked, [replace(ranked[0], ended=ended)]
    starts: dict[str, int] = {}
    for index in order:
        starts.setdefault(next(iter(singles[index])), index)
    paths = []
    for index in starts.values():
        search = _Search(costs, budget, evaluate, class_weights, allow)
        paths.append(search.run(steps[index], matrices[index]))
    best = max(paths, key=lambda path: path[-1].miou)
    # A path that began elsewhere must beat the best single member
    return ranked, best if best[-1].miou >= ranked[0].miou else ranked[:1]


@dataclass(frozen=True)
class _Search:
    costs: Mapping[Key, float]
    budget: float
    evaluate: Evaluate
    class_weights: bool
    allow: Allow

    def run(self, start: Step, matrices: np.ndarray) -> list[Step]:
        """The steps from a start with these matrices (domains, 13, 13)."""
        path = [start]
        seen = {_freeze(start.state)}
        while len(path) <= MOST_STEPS:
            moves = [move for move in self.moves(path[-1].state) if _freeze(move) not in seen]
            if not moves:
                break
            seen |= set(map(_freeze, moves))
            found = self.evaluate(moves)
            gain = held_out_gain(matrices, found)
            mious = [_miou(one) for one in found]
            best = int(np.argmax(mious))
            if gain <= LEAST_GAIN or mious[best] <= path[-1].miou:
                break
            path.append(Step(moves[best], mious[best], state_cost(moves[best], self.costs), gain))
            matrices = found[best]
        return path

    def moves(self, state: State) -> Iterator[State]:
        """The states one step from this one that may be chosen."""
        for move in self._all_moves(state):
            if move and state_cost(move, self.costs) <= self.budget and self.allow(move):
                yield move

    def _all_moves(self, state: State) -> Iterator[State]:
        for name, views in self.costs:
            if name not in state:
                mean = float(np.mean([np.mean(weights) for _, weights in state.values()]))
                for weight in WEIGHTS:
                    yield {**state, name: (views, (mean * weight,))}
                continue
            own, weights = state[name]
            if views != own:
                yield {**state, name: (views, weights)}
                continue
            others = {key: value for key, value in state.items() if key != name}
            yield others if len(others) > 1 else {one: (by, (1.0,)) for one, (by, _) in others.items()}
            if others:
                for factor in (0.5, 2.0):
                    yield {**state, name: (own, tuple(factor * weight for weight in weights))}
                    if self.class_weights:
                        yield from self._class_moves(state, name, factor)

    @staticmethod
    def _class_moves(state: State, name: str, factor: float) -> Iterator[State]:
        views, weights = state[name]
        every = weights if len(weights) > 1 else weights * CLASSES
        for index in range(len(every)):
            changed = (*every[:index], factor * every[index], *every[index + 1 :])
            yield {**state, name: (views, changed)}


def held_out_gain(current: np.ndarray, moves: np.ndarray) -> float:
    """How much choosing among the moves gains on the domains that the choice has not seen.

    current: confusion matrices (domains, 13, 13); moves: (moves, domains, 13, 13). For each domain the move
    with the best mIoU on all other domains is chosen, or none if no move gains there. The gain is that of the
    mIoU of the held-out domains' matrices, added up, over that of `current`.
    """
    totals, present = moves.sum(axis=1), current.sum(axis=0)
    held_out = np.zeros_like(present)
    for domain in range(len(current)):
        scores = [mean_iou(total - move[domain]) for total, move in zip(totals, moves, strict=True)]
        best = int(np.argmax(scores))
        gains = scores[best] > mean_iou(present - current[domain])  # False where no scored class is left
        held_out += moves[best, domain] if gains else current[domain]
    return float(mean_iou(held_out) - mean_iou(present))


def _miou(matrices: np.ndarray) -> float:
    return float(mean_iou(matrices.sum(axis=0)))


def _freeze(state: State) -> frozenset:
    """The state as a key; only the ratios of the members' weights matter, for each class alone."""
    weights = np.stack([np.broadcast_to(own, CLASSES) for _, own in state.values()])
    scaled = map(tuple, (weights / weights.max(axis=0)).tolist())
    return frozenset(
        (name, views, own) for (name, (views, _)), own in zip(state.items(), scaled, strict=True)
    )
