"""Pages and tables for people: one result, an evaluation without a score, a leaderboard, pictures of patches.

Imports all other folders of flair_scoring, and none of them imports it. flair_scoring.writing, score.py,
rank.py, starting_kit/ and bundle/ may import it.
"""
