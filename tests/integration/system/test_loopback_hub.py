"""The loopback Hub of the tests, used by the real clients, each in its own process."""

import http.client
import json
import subprocess
import sys
import urllib.request

import pyarrow
import pyarrow.parquet
import pytest

from tests.loopback_hub import LoopbackHub

WEIGHTS = bytes(range(256)) * 300
FILES = {"README.md": b"# A card\n", "sub/config.json": b"{}", "adapter.safetensors": WEIGHTS}
PREFACE = """
import json, sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import HfHubHTTPError

def outcome(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
        return "done"
    except HfHubHTTPError as error:
        return f"{error.response.status_code} {type(error).__name__}"

api, given = HfApi(), json.loads(sys.argv[1])
"""


@pytest.fixture
def hub():
    with LoopbackHub() as hub:
        yield hub


def client(hub, cache, code, given=None, token=None):
    """Run code with a variable `given`; returns the last line that it prints, from JSON."""
    done = subprocess.run(
        [sys.executable, "-c", PREFACE + code, json.dumps(given)],
        env=hub.environment(cache, token) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def write_files(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return str(folder)


def read(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def requested(hub, method, words):
    return [path for verb, path, _ in hub.requests if verb == method and words in path]


def test_a_folder_is_uploaded_and_downloaded(hub, tmp_path):
    code = """
url = api.create_repo("someone/adapter", private=True)
commits = [api.upload_folder(repo_id=url.repo_id, folder_path=given) for _ in range(2)]
api.create_repo("someone/adapter", exist_ok=True)
print(json.dumps([commit.oid for commit in commits]))
"""
    folder = write_files(tmp_path / "folder", FILES)
    first, second = client(hub, tmp_path / "writer", code, folder, hub.token)
    assert hub.files("someone/adapter") == hub.files("someone/adapter", revision=first) == FILES
    assert hub.is_private("someone/adapter")
    assert hub.received == {
        "README.md": ("inline", 9),
        "sub/config.json": ("inline", 2),
        "adapter.safetensors": ("lfs", len(WEIGHTS)),
    }
    assert second == first, "unchanged files make no second commit"
    puts = [authorization for method, _, authorization in hub.requests if method == "PUT"]
    assert puts == [None], "the weights were sent once, and the token not with them"

    code = 'print(json.dumps(snapshot_download("someone/adapter")))'
    snapshot = client(hub, tmp_path / "reader", code, token=hub.read_token)
    assert snapshot.endswith(first)
    assert read(tmp_path / "reader/hub/models--someone--adapter/snapshots" / first) == FILES


def test_load_dataset(hub, tmp_path):
    splits = {
        split: [{"text": f"{split} {row}", "label": row} for row in range(rows)]
        for split, rows in {"train": 5, "test": 2}.items()
    }
    folder = tmp_path / "dataset/plain_text"
    folder.mkdir(parents=True)
    for split, rows in splits.items():
        table = pyarrow.Table.from_pylist(rows)
        pyarrow.parquet.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    hub.add("stanfordnlp/imdb", tmp_path / "dataset", kind="datasets")
    code = """
from datasets import load_dataset
splits = load_dataset("stanfordnlp/imdb")
print(json.dumps({name: rows.to_list() for name, rows in splits.items()}))
"""
    assert client(hub, tmp_path / "cache", code) == splits


def test_from_pretrained_of_a_repository_without_owner(hub, tmp_path):
    config = {"model_type": "distilbert", "dim": 24, "n_heads": 2}
    hub.add("distilbert-base-uncased", {"config.json": json.dumps(config).encode()})
    code = """
from transformers import AutoConfig
config = AutoConfig.from_pretrained("distilbert-base-uncased")
print(json.dumps([type(config).__name__, config.dim]))
"""
    assert client(hub, tmp_path, code) == ["DistilBertConfig", 24]


def test_permissions(hub, tmp_path):
    hub.add("someone/open", FILES)
    hub.add("someone/secret", FILES, private=True)
    code = """
def outcomes(token):
    api = HfApi(token=token)
    upload = {"path_or_fileobj": b"x", "path_in_repo": "x"}
    return {
        "create": outcome(api.create_repo, "someone/new"),
        "create again": outcome(api.create_repo, "someone/open"),
        "create if need be": outcome(api.create_repo, "someone/open", exist_ok=True),
        "upload": outcome(api.upload_file, repo_id="someone/open", **upload),
        "upload to none": outcome(api.upload_file, repo_id="someone/none", **upload),
        "see": outcome(api.model_info, "someone/open"),
        "see private": outcome(api.model_info, "someone/secret"),
        "load private": outcome(api.hf_hub_download, "someone/secret", "README.md"),
        "see none": outcome(api.model_info, "someone/none"),
        "load no file": outcome(api.hf_hub_download, "someone/open", "none"),
    }

print(json.dumps([outcomes(token) for token in given]))
"""
    tokens = ["hf_unknown", False, hub.read_token, hub.token]
    unknown, *columns = client(hub, tmp_path, code, tokens)
    no_repo, no_file = "404 RepositoryNotFoundError", "404 RemoteEntryNotFoundError"
    hidden = "401 RepositoryNotFoundError"
    unauthorized, forbidden, there = (f"{status} HfHubHTTPError" for status in (401, 403, 409))
    assert {what: [column[what] for column in columns] for what in unknown} == {
        # no token, the read token, the write token
        "create": [unauthorized, forbidden, "done"],
        "create again": [unauthorized, forbidden, there],
        "create if need be": ["done", "done", "done"],  # the client looks if the repo is there
        "upload": [hidden, forbidden, "done"],
        "upload to none": [hidden, no_repo, no_repo],
        "see": ["done", "done", "done"],
        "see private": [hidden, "done", "done"],
        "load private": [hidden, "done", "done"],
        "see none": [hidden, no_repo, no_repo],
        "load no file": [no_file, no_file, no_file],
    }
    assert set(unknown.values()) == {unauthorized}
    assert list(hub.repos) == [("models", f"someone/{name}") for name in ("open", "secret", "new")]


def test_branches(hub, tmp_path):
    hub.add("someone/adapter", FILES)
    code = """
def upload(branch):
    place = {"repo_id": "someone/adapter", "path_in_repo": "sub/new.json", "revision": branch}
    return api.upload_file(path_or_fileobj=b"[]", **place).oid

missing = outcome(upload, "trial/1")
api.create_branch("someone/adapter", branch="trial/1")
oid = upload("trial/1")
tree = api.list_repo_tree("someone/adapter", revision=oid)
infos = api.get_paths_info("someone/adapter", ["sub", "README.md", "none"], revision="trial/1")
snapshot_download("someone/adapter", revision="trial/1")
print(json.dumps([
    missing,
    oid,
    [entry.path for entry in tree],
    [info.path for info in infos],
    api.model_info("someone/adapter", expand=["sha"]).sha,
    api.model_info("someone/adapter", revision="trial/1").sha,
]))
"""
    missing, oid, tree, infos, main, branch = client(hub, tmp_path, code, token=hub.token)
    assert missing == "404 RevisionNotFoundError"
    assert tree == ["README.md", "adapter.safetensors", "sub"]
    assert infos == ["sub", "README.md"]
    assert branch == oid != main
    assert hub.files("someone/adapter") == FILES
    assert hub.files("someone/adapter", revision="trial/1") == FILES | {"sub/new.json": b"[]"}
    assert read(tmp_path / "hub/models--someone--adapter/snapshots" / oid) == hub.files(
        "someone/adapter", revision=oid
    )


def test_errors_that_the_client_retries(hub, tmp_path):
    """One 500 on an LFS upload and one download cut off halfway: both succeed in the end."""
    hub.add("someone/adapter", {})
    hub.fail("PUT", "^/lfs/")
    hub.fail("GET", "/resolve/.*/adapter.safetensors", status="drop")
    code = """
api.upload_folder(repo_id="someone/adapter", folder_path=given)
print(json.dumps(snapshot_download("someone/adapter")))
"""
    folder = write_files(tmp_path / "folder", FILES)
    client(hub, tmp_path / "cache", code, folder, hub.token)
    assert len(requested(hub, "PUT", "/lfs/")) == 2
    assert len(requested(hub, "GET", "/resolve/")) == len(FILES) + 1
    (snapshot,) = (tmp_path / "cache/hub/models--someone--adapter/snapshots").iterdir()
    assert read(snapshot) == hub.files("someone/adapter") == FILES


def test_errors_that_the_client_does_not_retry(hub, tmp_path):
    hub.add("someone/adapter", {})
    hub.fail("POST", "/commit/main", status=503)
    code = """
print(json.dumps(outcome(api.upload_folder, repo_id="someone/adapter", folder_path=given)))
"""
    folder = write_files(tmp_path / "folder", FILES)
    assert client(hub, tmp_path / "cache", code, folder, hub.token) == "503 HfHubHTTPError"
    assert len(requested(hub, "POST", "/commit/main")) == 1
    assert hub.files("someone/adapter") == hub.received == {}


def test_ranges_and_dropped_connections(hub):
    hub.add("someone/adapter", FILES)
    address = f"{hub.endpoint}/someone/adapter/resolve/main/adapter.safetensors"

    def get(**headers):
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers)) as reply:
            return reply.status, reply.headers["Content-Range"], reply.read()

    assert get() == (200, None, WEIGHTS)
    assert get(Range="bytes=7-9") == (206, "bytes 7-9/76800", WEIGHTS[7:10])
    assert get(Range="bytes=76000-") == (206, "bytes 76000-76799/76800", WEIGHTS[76000:])
    hub.fail("GET", "adapter", status="drop")
    with pytest.raises(http.client.IncompleteRead) as cut:
        get()
    assert cut.value.partial == WEIGHTS[:38400]
    assert get() == (200, None, WEIGHTS)
