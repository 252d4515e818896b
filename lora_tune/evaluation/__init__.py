"""A model run over rows, baselines, the comparison and error analysis."""
