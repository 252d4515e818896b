"""The benchmark beside peers: whoever fails becomes a row of the table, with its reason."""

import json
from xml.etree import ElementTree

import pyarrow
import pytest
from pyarrow import parquet

from tests.conftest import ROOT

# Of a contestant each; `read_work` and the rest are those of the real ones.
SCRIPTS = {
    "answers_ones": (
        "from work import read_rows, read_work, report\n"
        "rows = read_rows(read_work().test)\n"
        "print('noise of a library')\n"
        "report('pytest', train_seconds=1.5, settings='a|b', answers=[1 for _ in rows])\n"
    ),
    "takes_twice_as_long": (
        "from work import read_rows, read_work, report\n"
        "rows = read_rows(read_work().test)\n"
        "report('pytest', train_seconds=3.0, settings='', answers=[0 for _ in rows])\n"
    ),
    "breaks": "from work import tell\ntell('step 2 of 9')\nraise ValueError('no such kernel')\n",
    "sleeps": "import time\nfrom work import tell\ntell('step 3 of 9')\ntime.sleep(120)\n",
}


@pytest.fixture
def peers(monkeypatch, tmp_path):
    """The benchmark, with contestants of these tests instead of its own."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import contest
    import peers

    for name, text in SCRIPTS.items():
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "work.py").write_text((contest.SCRIPTS / "work.py").read_text())
    monkeypatch.setattr(contest, "SCRIPTS", tmp_path)
    names = {"takes_twice_as_long": "PEFT, tuned Trainer"}
    contestants = [contest.Contestant(names.get(name, name), name) for name in SCRIPTS]
    # An empty index: nothing is fetched.
    contestants.append(contest.Contestant("absent", "absent", "--no-index no-such-package"))
    monkeypatch.setattr(peers, "CLASSIFIERS", contestants)
    return peers


def test_whoever_fails_or_is_late_is_a_row(peers, tmp_path):
    table = pyarrow.table({"text": ["good", "bad", "good", "fine"], "label": [1, 0, 1, 1]})
    for split in ("train", "test"):
        parquet.write_table(table, tmp_path / f"{split}.parquet")
    places = ["--environments", str(tmp_path / "environments"), "--results", str(tmp_path)]
    peers.main([str(tmp_path), "--rows", "4", "--limit", "5", "--rounds", "2", *places])

    (kept,) = json.loads((tmp_path / "peers.json").read_text()).values()
    runs = kept["classification"]
    assert [len(done) for done in runs.values()] == [2, 2, 2, 2, 1]
    assert [run["correct"] for run in runs["answers_ones"]] == [3, 3]
    assert runs["answers_ones"][0]["peak_memory_bytes"] > 1e6
    page = (tmp_path / "peers.md").read_text()
    cells = {line.split("|")[1].strip(): line for line in page.splitlines() if line[:2] == "| "}
    ones = cells["answers_ones"]
    assert "0.750 (0.750 to 0.750)" in ones  # of the two rounds
    assert "0.301 to 0.954" in ones  # Wilson, 3 of 4, by hand
    assert [cell.strip() for cell in ones.split("|")][6:8] == ["1.5", "0.50"]  # of tuned
    for line in (
        "- answers_ones: a|b",
        "- breaks: fails at step 2 of 9: ValueError: no such kernel",
        "- sleeps: not done after 5 s, at step 3 of 9",
        "- absent: does not install: ERROR: No matching distribution found",
    ):
        assert f"\n{line}" in page
    picture = ElementTree.parse(tmp_path / "peers.svg").getroot()
    assert "answers_ones 0.750 in 2 s" in picture.get("aria-label", "")
    assert "breaks" not in picture.get("aria-label", "")


def test_what_other_processors_took_is_kept(peers, tmp_path, monkeypatch):
    table = pyarrow.table({"text": ["good", "bad", "good", "fine"], "label": [1, 0, 1, 1]})
    for split in ("train", "test"):
        parquet.write_table(table, tmp_path / f"{split}.parquet")
    monkeypatch.setattr(peers, "CLASSIFIERS", peers.CLASSIFIERS[:2])
    words = [str(tmp_path), "--rows", "4", "--results", str(tmp_path)]
    own = peers.describe_environment

    def run(processor, *more):
        named = {"device_name": processor}
        monkeypatch.setattr(peers, "describe_environment", lambda device: own(device) | named)
        peers.main([*words, *more])
        return (tmp_path / "peers.md").read_text()

    run("slow one", "--only", "answers_ones")
    page = run("quick one")
    assert page.index("## quick one") < page.index("## slow one"), "where most were run"
    assert page.count("| answers_ones ") == 2
    assert page.count("| PEFT, tuned Trainer ") == 1
