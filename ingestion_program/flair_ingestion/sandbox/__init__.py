"""The sandbox around a submission: its rules, the child process in it, that process's private folder.

It imports flair_scoring, flair_ingestion.clock and flair_ingestion.processes; the modules above it in
flair_ingestion may import it. runner.py and attempts.py are programs that run inside the sandbox: they and
the files that they load (entering.py, explanations.py) import nothing of the kit.
"""
