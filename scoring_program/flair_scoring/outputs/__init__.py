"""The files of a scored submission: confusion.npz, scores.json, manifest.json, and what ingestion hands over.

It imports the evaluation and flair_scoring.base. Ranking, report, ingestion and bundle/ may import it.
"""
