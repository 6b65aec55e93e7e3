"""The device that a submission runs on: which one it is, how it runs, who else uses it.

Imports flair_scoring and flair_ingestion.sandbox. The clock imports it; the sandbox does not.
"""
