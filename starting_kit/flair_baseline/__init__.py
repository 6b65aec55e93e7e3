"""The baseline U-T&T: data, model, training. May import flair_ingestion and flair_scoring.

The programs of starting_kit/, benchmarks and tests may import it; scoring and ingestion do not. A packaged
submission carries a copy of this file and of the folder model/.
"""
