"""Maps as files: a GeoTIFF of an area and a picture of it; the outline of France.

It imports nothing else of flair_baseline. starting_kit/ may import it.
"""
