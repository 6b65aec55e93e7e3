"""FLAIR #2 on disk: finding, reading and checking its patches, telling what is missing, unpacking archives.

Code outside this folder imports the names below from here, and nothing from the modules. The folder imports
flair_scoring only; everything else in flair_ingestion and above it may import this folder.
"""

from flair_ingestion.dataset.completeness import describe_gaps, describe_missing, find_known
from flair_ingestion.dataset.hub_archives import lay_out, require_data
from flair_ingestion.dataset.index import Patch, index_patches, labels_folder, scan_split
from flair_ingestion.dataset.layout import KINDS, SPLITS, VALIDATION_DOMAINS, find_roots, root_names
from flair_ingestion.dataset.nodata import Nodata
from flair_ingestion.dataset.patches import (
    check_patches,
    read_image,
    read_labels,
    read_superpatch,
    sample_patches,
)
from flair_ingestion.dataset.sidecars import CENTROIDS, METADATA
from flair_ingestion.dataset.superarea import (
    BANDS,
    CENTRE,
    SuperArea,
    SuperPatch,
    read_ahead,
    read_dates,
)

__all__ = [
    "BANDS",
    "CENTRE",
    "CENTROIDS",
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
    "lay_out",
    "read_ahead",
    "read_dates",
    "read_image",
    "read_labels",
    "read_superpatch",
    "require_data",
    "root_names",
    "sample_patches",
    "scan_split",
]
