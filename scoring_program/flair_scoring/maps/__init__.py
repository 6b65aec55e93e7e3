"""Where patches lie, and the patches of an area put together to one raster.

It imports flair_scoring.base and flair_scoring.raster only. flair_scoring.report and starting_kit/ may import
it.
"""
