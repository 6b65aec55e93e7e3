"""Pictures of a result: aerial image, reference, prediction and errors, of single patches and of an area.

They show labels, so the platform never draws them. flair_scoring.commands may import it.
"""
