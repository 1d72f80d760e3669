"""The report of a run and the comparison of several: figures, tables and a page."""

from .page import write, write_comparison

__all__ = ["write", "write_comparison"]
