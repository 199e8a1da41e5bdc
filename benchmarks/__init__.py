"""What trio_ipc costs, beside what else could be used: ``python -m benchmarks``.

Function children import this package: nothing is imported here.
"""
