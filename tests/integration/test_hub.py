"""A Hub that is out of reach, silent or unwilling: one clear line, asked once, no retries."""

import http.server
import os
import subprocess
import sys
import threading

import pytest

from lora_tune.base import find_base
from lora_tune.errors import ModelError
from lora_tune.recipe import ModelConfig
from lora_tune.recipe_file import load_recipe
from tests.conftest import ROOT
from tests.loopback_hub import LoopbackHub


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers every request with one status; counts them."""

    def answer(self):
        self.server.requests.append(self.path)
        self.send_response(self.server.status)
        for name, value in self.server.answer_headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = answer

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.requests, server.answer_headers = [], {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def train(endpoint, *words, cache):
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HOME": cache}
    command = [sys.executable, "-m", "lora_tune", "train", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def address(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


def asked_for(server, name):
    """How often; the client may ask the Hub about other matters beside it."""
    return sum(name in path for path in server.requests)


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, "there is no such model, or it is private"),
        (401, {"X-Error-Code": "RepoNotFound"}, "there is no such model, or it is private"),
        (403, {"X-Error-Code": "GatedRepo"}, "this model asks for access"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "this model has no revision 'main'"),
        (500, {}, "it answered 500), and it is not in the local cache; offline, give a local"),
    ],
)
def test_an_unwilling_hub_is_asked_once(hub, tmp_path, status, headers, words):
    hub.status, hub.answer_headers = status, headers
    line = train(address(hub), "distilbert_imdb_lora", cache=str(tmp_path))
    assert line.startswith("distilbert-base-uncased: ")
    assert words in line
    assert asked_for(hub, "distilbert-base-uncased") == 1


def test_a_model_whose_files_are_given_to_some_alone(tmp_path):
    """As Meta's are: the Hub tells anyone of the repository, and refuses its files."""
    recipe = "llama_8b_alpaca_qlora"
    name = load_recipe(recipe).model.name
    with LoopbackHub() as hub:
        hub.add(name, {"config.json": b"{}"})
        hub.repos["models", name].gated = True
        line = train(hub.endpoint, recipe, cache=str(tmp_path))
    assert line.startswith(f"{name}: on {hub.endpoint} this model asks for access: accept its te")
    assert "`hf auth login`" in line


def test_a_model_whose_weights_are_a_pickle_alone(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")  # a pickle is not even fetched
    monkeypatch.setattr("lora_tune.base.fetch_files", lambda *_, **__: (tmp_path, "0" * 40))
    with pytest.raises(ModelError, match=r"found no weights .*model\.revision=refs/pr/NUMBER"):
        find_base(ModelConfig(name="microsoft/deberta-v3-base"))


def test_no_hub_at_all(tmp_path):
    line = train("http://127.0.0.1:9", "distilbert_imdb_lora", cache=str(tmp_path))
    assert "wanted this model from http://127.0.0.1:9 (out of reach: " in line
    assert "model.name=PATH, or run the quickstart recipe" in line


def test_a_dataset_out_of_reach(tmp_path, bases):
    line = train(
        "http://127.0.0.1:9",
        "distilbert_imdb_lora",
        f"model.name={bases['distilbert-base-uncased']}",
        cache=str(tmp_path),
    )
    assert line.startswith("stanfordnlp/imdb: wanted this dataset from http://127.0.0.1:9")
    assert "data.source=PATH" in line


def test_a_silent_hub_is_not_waited_for_long(hub, tmp_path):
    """It takes the connection and says nothing: one request, then the timeout."""
    release = threading.Event()
    hub.status = 500
    hub.RequestHandlerClass = type(
        "Silent",
        (Hub,),
        {"do_GET": lambda self: (self.server.requests.append(self.path), release.wait())},
    )
    try:
        line = train(address(hub), "distilbert_imdb_lora", cache=str(tmp_path))
    finally:
        release.set()
    assert "out of reach" in line
    assert asked_for(hub, "distilbert-base-uncased") == 1
