"""Weights from which a run starts: reading files of others, finding the layout of their names, matching.

Training, encoders.py, official.py and train.py may import these modules.
"""
