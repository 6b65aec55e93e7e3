"""bundle/audit.py on an honest submission, on one that caches and on one that keeps state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from entries import copy_submission
from ingest_command import run_ingest

import audit
from flair_ingestion.sandbox.probe import Observation

AUDIT = Path(__file__).parents[1] / "bundle" / "audit.py"


@pytest.mark.parametrize(
    ("name", "suspicious"),
    [
        ("caches_by_content", ["caching"]),
        pytest.param("keeps_state", ["repetition", "order"], marks=pytest.mark.long),
        pytest.param("honest_numpy", [], marks=pytest.mark.long),
    ],
)
def test_an_audit_tells_them_apart(
    flair_tree: Path, tmp_path: Path, name: str, suspicious: list[str]
) -> None:
    options = ["--data", flair_tree, "--patches", 5]
    done = run_ingest(tmp_path, copy_submission(name, tmp_path), *options, program=AUDIT)
    assert done.returncode == (3 if suspicious else 0), done.stderr
    verdicts = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines()}
    assert list(verdicts) == ["caching", "repetition", "order", "overhead", "sandbox"]
    assert [check for check, verdict in verdicts.items() if verdict == "SUSPICIOUS"] == suspicious
    assert "Traceback" not in done.stderr
    if suspicious:
        assert f"suspicious ({', '.join(suspicious)})" in done.stderr


def test_caching_is_a_gain_beyond_noise() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(0.02, 0.03, 16)
    assert audit.find_caching(first, first * rng.uniform(0.85, 1.2, 16), 0.001).verdict == "fine"
    assert audit.find_caching(first, first * 0.5, 0.001).verdict == "SUSPICIOUS"
    assert audit.find_caching(first, first * 0.5, 0.1).verdict == "fine"  # next to nothing


def test_a_busy_machine_is_no_cache() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):  # waits of another program's turns hit either time, whichever comes first
        first, second = 0.004 + 0.01 * (rng.random((2, 16)) < 0.5)
        assert audit.find_caching(first, second, 0.001).verdict == "fine"


def test_rounding_is_no_state() -> None:
    labels = np.zeros((2, 512, 512), np.uint8)
    rounded, other = labels.copy(), labels.copy()
    rounded[0, 0, :200] = 1
    other[1, :2] = 1
    for find in (audit.find_change, audit.find_order):
        assert find(labels, rounded).verdict == "fine"
        assert find(labels, other).verdict == "SUSPICIOUS"
        assert "1 of 2 patches get other labels" in find(labels, other).sentence


def test_a_sandbox_that_breaks_its_promise_is_the_machines_fault() -> None:
    rows = [
        Observation("read a label", "denied", "allowed"),
        Observation("trace the parent", "denied", "denied: EPERM"),
    ]
    finding = audit.describe_probe("files", rows)
    assert (finding.verdict, "read a label (allowed)" in finding.sentence) == ("WRONG", True)
    assert audit.describe_probe("process", [Observation("read a label", "open", "allowed")]).verdict == "fine"
