"""Pages and tables for people: one result, a failure, a leaderboard, pictures of patches.

Imports all other folders of flair_scoring, none of which imports it. score.py, rank.py and starting_kit/ may.
"""
