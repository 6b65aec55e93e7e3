"""The processes of a submission as Linux shows them: their states, what they hold, whether they are stopped.

Imports nothing else of the kit. The sandbox and the clock may import it.
"""
