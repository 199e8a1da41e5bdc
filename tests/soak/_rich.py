"""All that is used of rich, which need not be installed."""

from rich.console import Console
from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["BarColumn", "Console", "Progress", "TimeElapsedColumn", "TimeRemainingColumn"]
