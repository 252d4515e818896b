"""A Hub that is unreachable, slow or refuses: one clear line, one request, no retries."""

import http.server
import os
import threading
from contextlib import ExitStack

import pytest

from lora_tune.config.model import ModelConfig
from lora_tune.errors import ModelError
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.tasks.recipes import load_recipe
from tests.command_server import CommandServer
from tests.loopback_hub import LoopbackHub


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers every request with the same status and records it."""

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


@pytest.fixture(scope="module")
def hub():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.requests, server.answer_headers = [], {}
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """The command line for each Hub, in one process."""
    servers = {}
    with ExitStack() as stack:

        def commands_of(endpoint):
            if endpoint not in servers:
                variables = {
                    "HF_ENDPOINT": endpoint,
                    "HF_HUB_OFFLINE": "0",
                    "HF_HOME": str(tmp_path_factory.mktemp("cache")),
                }
                servers[endpoint] = stack.enter_context(CommandServer(os.environ | variables))
            return servers[endpoint]

        yield commands_of


@pytest.fixture
def train(commands):
    def train(endpoint, *words):
        done = commands(endpoint).run("train", *words)
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        return line

    return train


def address(server):
    return f"http://127.0.0.1:{server.server_address[1]}"


def count_requests(server, name):
    """How often a name was requested; the client may also request other things."""
    return sum(name in path for path in server.requests)


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (404, {"X-Error-Code": "RepoNotFound"}, "there is no such model, or it is private"),
        (401, {"X-Error-Code": "RepoNotFound"}, "there is no such model, or it is private"),
        (403, {"X-Error-Code": "GatedRepo"}, "this model is gated"),
        (404, {"X-Error-Code": "RevisionNotFound"}, "this model has no revision 'main'"),
        (500, {}, "HTTP status 500) and is not in the local cache; to work offline, set"),
    ],
)
def test_an_error_of_the_hub_is_reported_after_one_request(hub, train, status, headers, words):
    hub.status, hub.answer_headers = status, headers
    hub.requests.clear()
    line = train(address(hub), "distilbert_imdb_lora")
    assert line.startswith("distilbert-base-uncased: ")
    assert words in line
    assert count_requests(hub, "distilbert-base-uncased") == 1


def test_a_gated_model(train):
    """As Meta's models: the Hub shows the repository to anyone, and refuses its files."""
    recipe = "llama_8b_alpaca_qlora"
    name = load_recipe(recipe).model.name
    with LoopbackHub() as hub:
        hub.add(name, {"config.json": b"{}"})
        hub.repos["models", name].gated = True
        line = train(hub.endpoint, recipe)
    assert line.startswith(f"{name}: on {hub.endpoint} this model is gated: accept its te")
    assert "`hf auth login`" in line


def test_a_model_with_pickled_weights_only(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("{}")  # a pickle is not downloaded at all
    monkeypatch.setattr(
        "lora_tune.models.checkpoint.fetch_files", lambda *_, **__: (tmp_path, "0" * 40)
    )
    with pytest.raises(ModelError, match=r"found no weights .*model\.revision=refs/pr/NUMBER"):
        resolve_checkpoint(ModelConfig(name="microsoft/deberta-v3-base"))


def test_no_connection_to_the_hub(train):
    line = train("http://127.0.0.1:9", "distilbert_imdb_lora")
    assert "this model cannot be fetched from http://127.0.0.1:9 (unreachable: " in line
    assert "set model.name to a local folder, or run the quickstart recipe" in line


def test_an_unreachable_dataset(train, bases):
    line = train(
        "http://127.0.0.1:9",
        "distilbert_imdb_lora",
        f"model.name={bases['distilbert-base-uncased']}",
    )
    assert line.startswith(
        "stanfordnlp/imdb: this dataset cannot be fetched from http://127.0.0.1:9"
    )
    assert "set data.source to local files" in line


def test_a_hub_that_does_not_answer_times_out(hub, train, monkeypatch):
    """It accepts the connection and sends nothing: one request, then the timeout."""
    release = threading.Event()

    class Silent(Hub):
        def do_GET(self):
            self.server.requests.append(self.path)
            release.wait()

    monkeypatch.setattr(hub, "RequestHandlerClass", Silent)
    hub.status = 500
    hub.requests.clear()
    try:
        line = train(address(hub), "distilbert_imdb_lora")
    finally:
        release.set()
    assert "unreachable" in line
    assert count_requests(hub, "distilbert-base-uncased") == 1
