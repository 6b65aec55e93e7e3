"""FLAIR #2 on disk: which patches there are, what is read of them, what is missing, samples of them.

The only face of this folder: others import these names from here. Imports flair_scoring; everything above may
import it.
"""

from flair_ingestion.dataset.completeness import describe_gaps, describe_missing, find_known
from flair_ingestion.dataset.index import Patch, index_patches, labels_folder, scan_split
from flair_ingestion.dataset.layout import KINDS, SPLITS, VALIDATION_DOMAINS, find_roots
from flair_ingestion.dataset.nodata import Nodata
from flair_ingestion.dataset.patches import (
    check_patches,
    read_image,
    read_labels,
    read_superpatch,
    sample_patches,
)
from flair_ingestion.dataset.sidecars import METADATA
from flair_ingestion.dataset.superarea import (
    BANDS,
    CENTRE,
    SuperArea,
    SuperPatch,
    open_super_area,
    read_ahead,
    read_dates,
)

__all__ = [
    "BANDS",
    "CENTRE",
    "KINDS",
    "METADATA",
    "SPLITS",
    "VALIDATION_DOMAINS",
    "Nodata",
    "Patch",
    "SuperArea",
    "SuperPatch",
    "check_patches",
    "describe_gaps",
    "describe_missing",
    "find_known",
    "find_roots",
    "index_patches",
    "labels_folder",
    "open_super_area",
    "read_ahead",
    "read_dates",
    "read_image",
    "read_labels",
    "read_superpatch",
    "sample_patches",
    "scan_split",
]
