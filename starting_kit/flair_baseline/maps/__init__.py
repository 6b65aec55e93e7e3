"""Maps: the patches of an area put together to one georeferenced raster and one picture; France's outline.

It imports nothing else of flair_baseline. starting_kit/ may import it.
"""
