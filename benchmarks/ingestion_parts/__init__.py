"""What benchmarks/ingestion.py measures: a module for each subject.

Only ingestion.py imports these modules. They may import the kit and benchmarks/common.
"""
