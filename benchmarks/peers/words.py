"""Words alone: TF-IDF of one- and two-word terms, logistic regression; no language model."""

import time

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from work import read_rows, read_work, report

work = read_work()
train = read_rows(work.train)
start = time.perf_counter()
model = make_pipeline(
    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2),
    LogisticRegressionCV(
        Cs=[0.1, 1, 10, 100], l1_ratios=(0,), use_legacy_attributes=False, max_iter=1000
    ),
)
model.fit([row["text"] for row in train], [row["label"] for row in train])
seconds = time.perf_counter() - start
answers = model.predict([row["text"] for row in read_rows(work.test)])
chosen = model[-1].C_
report(
    "scikit-learn",
    train_seconds=seconds,
    settings=f"whole texts, C={chosen:g} by cross-validation",
    answers=answers,
)
