"""The files of a scored submission: confusion.npz, manifest.json, and what ingestion hands over.

Imports the metrics and flair_scoring.base. Ranking, pages, ingestion and bundle/ may import it.
"""
