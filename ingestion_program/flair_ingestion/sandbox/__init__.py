"""What keeps a submission in its process: policy, filter of system calls, the child, its private folder.

Imports flair_scoring and flair_ingestion.processes. runner.py and attempts.py run inside the sandbox and
import nothing of the kit.
"""
