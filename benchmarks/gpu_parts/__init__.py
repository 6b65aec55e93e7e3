"""Programs that benchmarks/gpu.py starts, each as one of its parts.

Only tests may import them. They import the kit and benchmarks/common. To run one of them by hand, set
PYTHONPATH=benchmarks.
"""
