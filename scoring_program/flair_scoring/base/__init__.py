"""What every program of the kit needs whatever its task: errors, files, settings, processes, origin.

It imports no other package of the kit. Every package may import it.
"""
