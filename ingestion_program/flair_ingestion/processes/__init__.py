"""The processes of a submission as /proc shows them: their states, what they hold, whether they stand still.

It imports nothing else of the kit. flair_ingestion.sandbox and the modules above that may import it.
"""
