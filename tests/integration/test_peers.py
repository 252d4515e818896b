"""The benchmark of peers: a contestant that fails is a row of the table with its reason."""

import json
from xml.etree import ElementTree

import pyarrow
import pytest
from pyarrow import parquet

from benchmarks.peers import contest, peers
from benchmarks.peers.peers_page import TUNED

JOB = "from benchmarks.peers.job import read_job, read_rows, report_progress, report_result\n"
# By name: the script of a contestant.
SCRIPTS = {
    "predicts_ones": (
        "rows = read_rows(read_job().test)\n"
        "print('noise of a library')\n"
        "ones = [1 for _ in rows]\n"
        "report_result('pytest', train_seconds=1.5, settings='a|b', predictions=ones)\n"
    ),
    "takes_twice_as_long": (
        "rows = read_rows(read_job().test)\n"
        "zeros = [0 for _ in rows]\n"
        "report_result('pytest', train_seconds=3.0, settings='', predictions=zeros)\n"
    ),
    "breaks": "report_progress('step 2 of 9')\nraise ValueError('no such kernel')\n",
    "sleeps": "import time\nreport_progress('step 3 of 9')\ntime.sleep(120)\n",
}


@pytest.fixture
def contestants(monkeypatch, tmp_path):
    """The benchmark with the scripts above instead of its own, and four rows in tmp_path."""
    package = tmp_path / "scripts_of_tests"
    package.mkdir()
    for name, text in SCRIPTS.items():
        (package / f"{name}.py").write_text(JOB + text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(contest, "SCRIPTS", package.name)
    titles = {"takes_twice_as_long": TUNED}
    found = [contest.Contestant(titles.get(name, name), name) for name in SCRIPTS]
    # Without an index, pip finds no package.
    found.append(contest.Contestant("absent", "absent", "--no-index no-such-package"))
    monkeypatch.setattr(peers, "CLASSIFIERS", found)
    table = pyarrow.table({"text": ["good", "bad", "good", "fine"], "label": [1, 0, 1, 1]})
    for split in ("train", "test"):
        parquet.write_table(table, tmp_path / f"{split}.parquet")
    return found


def test_a_contestant_that_fails_or_is_late_is_a_row(contestants, tmp_path):
    folders = ["--environments", str(tmp_path / "environments"), "--results", str(tmp_path)]
    peers.main([str(tmp_path), "--rows", "4", "--limit", "5", "--rounds", "2", *folders])

    (record,) = json.loads((tmp_path / "peers.json").read_text()).values()
    runs = record["classification"]
    assert [len(done) for done in runs.values()] == [2, 2, 2, 2, 1]
    assert [run["correct"] for run in runs["predicts_ones"]] == [3, 3]
    assert runs["predicts_ones"][0]["peak_memory_bytes"] > 1e6
    page = (tmp_path / "peers.md").read_text()
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line[:2] == "| "}
    ones = rows["predicts_ones"]
    assert "0.750 (0.750 to 0.750)" in ones  # of the two rounds
    assert "0.301 to 0.954" in ones  # Wilson, 3 of 4, by hand
    assert [cell.strip() for cell in ones.split("|")][6:8] == ["1.5", "0.50"]  # vs. tuned
    for line in (
        "- predicts_ones: a|b",
        "- breaks: failed at step 2 of 9: ValueError: no such kernel",
        "- sleeps: not finished after 5 s, at step 3 of 9",
        "- absent: not installed: ERROR: No matching distribution found",
    ):
        assert f"\n{line}" in page
    plot = ElementTree.parse(tmp_path / "peers.svg").getroot()
    assert "predicts_ones 0.750 in 2 s" in plot.get("aria-label", "")
    assert "breaks" not in plot.get("aria-label", "")


def test_records_of_other_processors_are_kept(contestants, tmp_path, monkeypatch):
    monkeypatch.setattr(peers, "CLASSIFIERS", contestants[:2])
    arguments = [str(tmp_path), "--rows", "4", "--results", str(tmp_path)]
    own = peers.describe_environment

    def run(processor, *more):
        named = {"device_name": processor}
        monkeypatch.setattr(peers, "describe_environment", lambda device: own(device) | named)
        peers.main([*arguments, *more])
        return (tmp_path / "peers.md").read_text()

    run("slow one", "--only", "predicts_ones")
    page = run("quick one")
    assert page.index("## quick one") < page.index("## slow one"), "most contestants first"
    assert page.count("| predicts_ones ") == 2
    assert page.count(f"| {TUNED} ") == 1


def test_older_records_are_read_under_todays_names(tmp_path):
    run = {"version": "1", "train_seconds": 1.0, "total_seconds": 2.0, "peak_memory_bytes": 1}
    record = {
        "rows": 4,
        "test_rows": 4,
        "classification": {"words alone": [run | {"settings": "", "correct": 3}]},
        "commands": {"words": "python peers.py"},
    }
    (tmp_path / "peers.json").write_text(json.dumps({"a processor": record}))
    (read,) = peers.read_records(tmp_path).values()
    assert list(read["classification"]) == ["TF-IDF baseline"]
    assert read["commands"] == {"tfidf": "python peers.py"}
