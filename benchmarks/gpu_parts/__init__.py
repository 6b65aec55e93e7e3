"""Programs that benchmarks/gpu.py starts, each as one of its parts.

Nothing but gpu.py and the tests uses them. They may import the kit and benchmarks/common. To run one of them
by hand, set PYTHONPATH=benchmarks.
"""
