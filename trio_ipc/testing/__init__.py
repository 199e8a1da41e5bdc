"""Checks for the tests of programs that use channels, and for our own.

`trio_ipc` does not import this package: say ``import trio_ipc.testing``.
"""

from ._check_channels import check_channel_pair as check_channel_pair
from ._check_leaks import check_no_leaks as check_no_leaks

for _function in (check_channel_pair, check_no_leaks):  # public, wherever they are defined
    _function.__module__ = __name__
del _function
