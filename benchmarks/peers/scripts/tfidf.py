"""A baseline without a language model: TF-IDF of one- and two-word terms, logistic regression."""

import time

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline

from benchmarks.peers.job import read_job, read_rows, report_result

job = read_job()
train = read_rows(job.train)
start = time.perf_counter()
model = make_pipeline(
    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
    LogisticRegressionCV(
        Cs=[0.1, 1, 10, 100], l1_ratios=(0,), use_legacy_attributes=False, max_iter=1000
    ),
)
model.fit([row["text"] for row in train], [row["label"] for row in train])
seconds = time.perf_counter() - start
predictions = model.predict([row["text"] for row in read_rows(job.test)])
strength = model[-1].C_
report_result(
    "scikit-learn",
    train_seconds=seconds,
    settings=f"whole texts, C={strength:g} by cross-validation",
    predictions=predictions,
)
