"""What trio_ipc costs, beside what else could be used: ``python -m benchmarks``.

works.py says what is measured, at which sizes, and who does it; peers/ how each does it, in
programs of their own (contestant.py); measuring/ runs them in turns; reporting/ keeps and shows
what came out.

Function children import this package: nothing is imported here.
"""
