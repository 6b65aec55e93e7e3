"""What score.py, rank.py and the commands flair-score and flair-rank do: their options, files and exit codes.

Imports all of flair_scoring. score.py, rank.py and tests may import it; no other module of the kit does.
"""
