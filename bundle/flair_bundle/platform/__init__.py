"""The platform's compute worker, imitated: its containers and its two jobs for each submission.

Imports nothing else of the kit. rehearse.py and the tests of the bundle may import it.
"""
