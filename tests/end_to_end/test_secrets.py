"""A secret in the environment, in an interpolation or in a URL is not shown or written."""

import os
import subprocess
import sys

import pytest

from lora_tune.config.redaction import redact
from tests.command_server import CommandServer
from tests.conftest import ROOT
from tests.tiny import EMBEDDED, make_base

SECRETS = {
    "HF_TOKEN": "hf_" + "s3cret" * 5,
    "MY_API_KEY": 'quoted"and\\slashed-key',
    "REVIEW_SECRET": "a-secret-example-" + "long" * 20,
    "MOUNTED_SECRET": "first-line-of-it\nsecond-line-of-it\n",
    "DATA_PLACE": str(EMBEDDED / "movie_reviews"),  # not secret by its name, but a recipe reads it
}
TRAIN = [sys.executable, "-m", "lora_tune", "train"]
IN_URL = "p4ssw0rd-in-url"
ENVIRONMENT = {"HF_ENDPOINT": f"http://user:{IN_URL}@127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
RECIPE = """
model: {name: BASE}
data:
  source: ${oc.env:DATA_PLACE}
  labels: [negative, positive]
  train: {samples: 40}
training: {num_train_epochs: 1, run_name: "${oc.env:MY_API_KEY}"}
examples: ["${oc.env:REVIEW_SECRET}", "${oc.env:MOUNTED_SECRET}", plain]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("secrets")
    base = make_base(folder / "base", "distilbert-base-uncased")
    (folder / "mine.yaml").write_text(RECIPE.replace("BASE", str(base)))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "lora_tune",
            "train",
            folder / "mine.yaml",
            "--output",
            folder / "run",
        ],
        cwd=ROOT,
        env=os.environ | SECRETS | ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture(scope="module")
def server():
    with CommandServer(os.environ | SECRETS | ENVIRONMENT) as server:
        yield server


def leaks(text):
    values = [
        *SECRETS.values(),
        IN_URL,
        "first-line-of-it",
        "second-line-of-it",
        'quoted\\"and\\\\slashed-key',
        "a-secret-example-",
    ]
    return [value for value in values if value in text]


def test_a_run_writes_and_prints_no_secret(run):
    folder, done = run
    assert leaks(done.stdout + done.stderr) == []
    files = [path for path in (folder / "run").rglob("*") if path.is_file()]
    assert {"manifest.json", "README.md", "comparison.json", "recipe.yaml"} <= {
        path.name for path in files
    }
    for path in files:
        assert leaks(path.read_bytes().decode(errors="replace")) == [], path
    assert "${oc.env:REVIEW_SECRET}" in (folder / "run" / "comparison.json").read_text()
    assert "${oc.env:DATA_PLACE}" in (folder / "run" / "recipe.yaml").read_text()


@pytest.mark.parametrize(
    "words",
    [
        ["train", "quickstart", "model.name=acme/nowhere"],
        ["train", "quickstart", f"data.source=https://me:{IN_URL}@example.org/rows.csv"],
        ["train", "quickstart", f"data.source=https://example.org/rows.csv?token={IN_URL}"],
        ["train", "quickstart", "data.source=${oc.env:REVIEW_SECRET}"],
        ["train", "quickstart", "lora.rank=${oc.env:REVIEW_SECRET}"],
        ["train", "quickstart", "model.name=${oc.env:HF_TOKEN}"],
        ["train", "quickstart", "data.labels=[a, '${oc.env:HF_TOKEN}']"],
        ["train", "quickstart", f"data.source=https://example.org/rows.csv?sv=1&sig={IN_URL}"],
        ["train", "quickstart", "training.lr_scheduler_type=${oc.env:MY_API_KEY}"],
        ["predict", f"https://me:{IN_URL}@example.org/adapter", "--text", "x"],
        ["push", "ADAPTER", f"https://me:{IN_URL}@example.org/adapter"],
        ["push", "ADAPTER", "me/mine"],
    ],
)
def test_no_error_shows_a_secret(run, server, words):
    folder, _ = run
    words = [str(folder / "run" / "adapter") if word == "ADAPTER" else word for word in words]
    done = server.run(*words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert leaks(done.stdout + done.stderr) == []


def test_ordinary_words_are_not_redacted(monkeypatch):
    monkeypatch.setenv("SHORT_TOKEN", "film")
    assert redact("a film, see https://example.org/?page=2") == (
        "a film, see https://example.org/?page=2"
    )
