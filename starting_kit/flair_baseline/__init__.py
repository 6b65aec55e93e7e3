"""The baseline U-T&T: data, model, training. May import flair_ingestion and flair_scoring.

For starting_kit's programs, benchmarks and tests; scoring and ingestion import nothing of it. A packaged
submission carries a copy of this file and of the folder model/.
"""
