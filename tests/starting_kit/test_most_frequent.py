import shutil
import zipfile
from pathlib import Path

import numpy as np
import rasterio

from flair_files import write_raster
from programs import run_here


def test_the_constant_is_the_most_frequent_scored_class_of_the_training_domains(
    flair_tree: Path, tmp_path: Path
):
    pixels = np.zeros(20, dtype=int)
    for path in sorted((flair_tree / "flair_labels_train").rglob("MSK_*.tif")):
        if not path.relative_to(flair_tree).parts[1].startswith(("D004", "D014", "D029")):
            with rasterio.open(path) as file:
                pixels += np.bincount(file.read(1).ravel(), minlength=20)
    expected = int(pixels[1:13].argmax())
    done = run_here("most_frequent", flair_tree, "-o", "most_frequent.zip", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "most_frequent.zip\n"), done.stderr
    with zipfile.ZipFile(tmp_path / "most_frequent.zip") as archive:
        assert archive.namelist() == ["metadata.yaml", "model.py"]
        namespace: dict[str, type] = {}
        exec(archive.read("model.py"), namespace)
    labels = namespace["Model"](tmp_path, None).predict({"aerial": np.zeros((3, 5, 512, 512), np.uint8)})
    assert np.array_equal(labels, np.full((3, 512, 512), expected))
    assert labels.dtype == np.uint8


def test_labels_of_no_scored_class_are_refused(flair_tree: Path, tmp_path: Path):
    data = Path(shutil.copytree(flair_tree, tmp_path / "data"))
    for path in data.glob("flair_labels_train/*/*/msk/*.tif"):
        write_raster(path, np.full((512, 512), 19, np.uint8))
    done = run_here("most_frequent", data, "-o", tmp_path / "x.zip")
    assert done.returncode == 2
    assert f"error: {data}: no training label is of the 12 classes" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.zip").exists()
