"""The rules that an organizer chooses in rules.yaml, in the words of the pages Rules and FAQ."""

from __future__ import annotations

from pathlib import Path

from flair_scoring.base.errors import DataError, UsageError, list_problems
from flair_scoring.base.files import read_file
from flair_scoring.base.settings import parse_settings

RULES = Path(__file__).resolve().parents[1] / "rules.yaml"
_MAX_BYTES = 1 << 16
# Key of rules.yaml -> choice -> a cell of what is allowed, a cell of what is not, an answer of the FAQ
WORDS: dict[str, dict[str, tuple[str, str, str]]] = {
    "public_weights": {
        "any": (
            "Pretrained weights that are public and named in your description",
            "Weights or data that others cannot download",
            "Yes, if they are public. Name them in the description of the submission.",
        ),
        "without_test_domains": (
            "Pretrained weights that are public and named in your description",
            "Weights that were trained on labels of the test domains, whoever trained them; IGN's models of "
            "FLAIR-INC and FLAIR-HUB count as such, unless their description excludes it",
            "Yes, if they are public and were not trained on labels of the test domains. Name them in the "
            "description of the submission. IGN's models of FLAIR-INC and FLAIR-HUB are not allowed unless "
            "their description excludes the test domains.",
        ),
        "none": (
            "Weights that you have trained on FLAIR #2's training set, from random ones",
            "Pretrained weights, also those of ImageNet",
            "No: train from random weights (`encoder_weights=null`), on FLAIR #2's training set alone.",
        ),
    },
    "pseudo_labels": {
        "forbidden": (
            "Training on all labelled training and validation patches",
            "Training on images of the test set, also with labels that a model has made for them "
            "(pseudo-labels)",
            "No, whether with labels of a model (pseudo-labels) or without labels: a map of a new "
            "département would need a new training.",
        ),
        "allowed": (
            "Training on images of the test set with labels that your own model has made for them "
            "(pseudo-labels), before you submit",
            "Pseudo-labels that are corrected by hand",
            "Yes, with labels that your own models have made for them (pseudo-labels), before you submit. "
            "Say so in the description. Labels corrected by hand are not allowed.",
        ),
    },
}


def read_rules(path: Path = RULES) -> dict[str, str]:
    """The texts of the chosen rules by placeholder: <key>_allowed, <key>_not_allowed and <key>_answer.

    Raises UsageError when the file cannot be read, and DataError that lists all keys and choices that are
    missing or unknown.
    """
    try:
        chosen = parse_settings(read_file(path, _MAX_BYTES))
    except OSError as error:
        reason = f"cannot be read ({error.strerror}); expected the rules of the contest"
        raise UsageError(f"{path}: {reason}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}; expected lines of key: choice") from error
    if not isinstance(chosen, dict):
        raise DataError(f"{path}: expected lines of key: choice, for {', '.join(WORDS)}")
    problems = [f"unknown key {key}; the keys are {', '.join(WORDS)}" for key in chosen if key not in WORDS]
    texts: dict[str, str] = {}
    for key, choices in WORDS.items():
        if chosen.get(key) not in choices:
            problems.append(f"{key}: {chosen.get(key)!r}; choose one of {', '.join(choices)}")
            continue
        names = ("allowed", "not_allowed", "answer")
        texts |= {f"{key}_{name}": text for name, text in zip(names, choices[chosen[key]], strict=True)}
    if problems:
        raise DataError(list_problems(str(path), problems))
    return texts
