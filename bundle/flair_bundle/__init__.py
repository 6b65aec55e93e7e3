"""The organizer's desk: the content of a bundle, its pages, its writing, its check before an upload.

Imports flair_ingestion and flair_scoring. build.py, tests and benchmarks/ may import it; no program of the
platform does.
"""
