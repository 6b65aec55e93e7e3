"""Broken: defines no Model."""

BATCH_SIZE = 1
