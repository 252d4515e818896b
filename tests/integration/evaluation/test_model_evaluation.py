"""Evaluation keeps its batches within limits, which change no output."""

import numpy as np
import pytest

from lora_tune.evaluation.model_evaluation import compute_outputs
from tests.integration.task_rows import BASES, make_parts, tokenize_rows
from tests.tiny import make_base, reviews


@pytest.mark.parametrize("name", ["causal_lm", "seq2seq_lm"])
def test_evaluation_keeps_logits_and_rows_within_limits(name, tmp_path, monkeypatch):
    parts = make_parts(make_base(tmp_path, BASES[name]), name)
    rows = tokenize_rows(parts, [text[: 20 + 9 * n] for n, text in enumerate(reviews()[0][:8])])
    sizes = []

    def watch(_, __, outputs):
        sizes.append((len(outputs.logits), outputs.logits.numel()))

    parts.model.register_forward_hook(watch)
    options = {"task": parts.task, "collate": parts.collate, "title": ""}
    together = compute_outputs(parts.model, rows, **options)
    assert [rows for rows, _ in sizes] == [8]
    sizes.clear()
    limit = 100 * parts.model.config.vocab_size
    monkeypatch.setattr("lora_tune.evaluation.model_evaluation.MAX_LOGITS", limit)
    apart = compute_outputs(parts.model, rows, **options)
    assert len(sizes) > 1
    assert all(count == 1 or logits <= limit for count, logits in sizes)
    for one, other in zip(together, apart, strict=True):
        assert np.allclose(one, other, atol=1e-5)
    sizes.clear()
    compute_outputs(parts.model, rows, max_rows=2, **options)
    assert max(count for count, _ in sizes) <= 2
