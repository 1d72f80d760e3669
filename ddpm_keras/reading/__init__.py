"""Files that somebody else may have written, read within bounds that are known beforehand."""
