"""What every program of the kit needs beside its task: errors, files, settings, messages, signals, origin.

It imports nothing else of the kit. Everything may import it.
"""
