"""Metrics of predicted numbers."""

import numpy as np


def regression_metrics(predictions: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """Compute errors and correlations, (rows,) both.

    Returns:
        mean_absolute_error and rmse, in the references' unit; pearson and spearman, 0 where either
        side is constant; and loss, the mean squared error.
    """
    from scipy.stats import pearsonr, spearmanr

    varied = len(predictions) > 1 and np.ptp(predictions) > 0 and np.ptp(references) > 0
    squared = float(((predictions - references) ** 2).mean())
    return {
        "mean_absolute_error": float(np.abs(predictions - references).mean()),
        "rmse": squared**0.5,
        "pearson": float(pearsonr(predictions, references).statistic) if varied else 0.0,
        "spearman": float(spearmanr(predictions, references).statistic) if varied else 0.0,
        "loss": squared,
    }
