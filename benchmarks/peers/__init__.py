"""Who is measured: one module for each way to talk to another process.

Function children import this package: nothing is imported here.
"""
