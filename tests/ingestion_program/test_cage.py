from __future__ import annotations

import json
import shutil
import socket
import sys
import time
from pathlib import Path

import pytest
import torch
from ingest_command import run_ingest

from flair_ingestion import cage
from flair_ingestion.devices import Device
from flair_ingestion.limits import read_limits
from flair_ingestion.session import Session
from flair_ingestion.submission import open_submission
from flair_scoring.errors import UsageError

sys.path.append(str(Path(__file__).parents[1] / "submissions"))
from zoo import lay_out


@pytest.mark.skipif(not cage.landlock_version(), reason="this kernel has no Landlock of version 3 or newer")
def test_a_submission_reaches_its_own_things_and_nothing_else(flair_tree: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(flair_tree, data)
    (tmp_path / "output").mkdir()
    file = data / "flair_aerial_metadata.json"
    content = file.read_bytes()
    submission = lay_out("reaches_out", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:
        targets = {"data": str(data), "file": str(file), "output": str(tmp_path / "output")}
        targets["port"] = server.getsockname()[1]
        (submission / "targets.json").write_text(json.dumps(targets))
        options = ["--limit-ratio", 0, "--require-cage", "files"]
        done = run_ingest(tmp_path, data, submission, tmp_path / "output", *options)
    assert "RuntimeError: tried everything" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "list the data" in line]
    tried = json.loads(line.partition("| ")[2])
    if cage.landlock_version() < 6:
        del tried["signal the parent"]
    if cage.landlock_version() < 4:
        del tried["connect"]
    succeeded = [what for what in tried if tried[what]]
    assert succeeded == ["write its home", "discard output", "read its own status"]
    assert file.read_bytes() == content
    assert not Path("/dev/shm/flair2-test").exists()


@pytest.mark.parametrize(
    "place", [Path(sys.prefix), Path(sys.base_prefix) / "share", Path("/usr/local/data")]
)
def test_data_where_a_submission_may_read_are_refused(place: Path, tmp_path: Path) -> None:
    cage.require_hidden(tmp_path)
    with pytest.raises(UsageError, match="which a submission may read; move the data elsewhere"):
        cage.require_hidden(place)


def test_levels_are_ordered_and_none_is_claimed_without_all_of_its_parts() -> None:
    report = {"own_session": True, "no_new_privileges": True, "root_hidden": True}
    assert cage.reached_level(True, report) == "files"
    assert cage.reached_level(True, report | {"root_hidden": False}) == "process"
    assert cage.reached_level(True, report | {"no_new_privileges": False}) == "none"
    assert cage.reached_level(True, report | {"own_session": False}) == "none"
    assert cage.reached_level(False, report) == "none"
    for reached, required in [("process", "process"), ("files", "none"), ("full", "files")]:
        cage.require_level(reached, required)
    for reached, required in [("none", "process"), ("process", "files"), ("files", "full")]:
        with pytest.raises(UsageError, match=f"level '{reached}' here; --require-cage asks for '{required}'"):
            cage.require_level(reached, required)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there to be seen")
def test_a_gpu_that_torch_does_not_see_is_the_machines_fault(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    submission = open_submission(lay_out("honest_constant", tmp_path), 1)
    device = Device("cuda", "a GPU", "0", {})
    with (
        pytest.raises(UsageError, match="torch sees no CUDA device"),
        Session(submission, device, read_limits(), time.monotonic() + 300) as session,
    ):
        session.start("none")
    assert ("trying without" in capfd.readouterr().err) is bool(cage.landlock_version())
