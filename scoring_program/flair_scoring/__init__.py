"""The score: labels, confusion matrix, metrics, reports. Needs no torch; imported by everything above it."""
