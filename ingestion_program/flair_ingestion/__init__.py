"""From data and a submission to timed predictions: index and readers, clock, sandbox, limits, output.

The first floor: it may import flair_scoring. Only runner.py, the child, imports torch. ingest.py,
flair_baseline, starting_kit/, bundle/ and benchmarks/ may import it; a submission never does.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
IN_WHEEL = PACKAGE / "program"  # setup.py lets a wheel have a copy there
# The folder of ingest.py, limits.yaml and the kit's own submissions; in a clone and in the bundle it holds
# this package
PROGRAM = IN_WHEEL if IN_WHEEL.is_dir() else PACKAGE.parent
