"""What benchmarks/toy_learning.py measures beside the rows of Table IV.

Only toy_learning.py imports these modules. They may import the kit and benchmarks/common.
"""
