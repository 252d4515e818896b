"""An adapter is uploaded to a Hub and loaded from it, with the real clients over real HTTP."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.command_server import CommandServer
from tests.conftest import ROOT
from tests.loopback_hub import LoopbackHub
from tests.plain_peft import ask_plain_peft
from tests.tiny import make_base, reviews

REPOSITORY = "me/reviews"
TEXTS = reviews("test")[0][:6]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with LoopbackHub() as hub:
        base = make_base(tmp_path_factory.mktemp("base"), "distilbert-base-uncased")
        hub.add("acme/tiny-base", base)
        yield hub


def lora_tune(hub, cache, *words, token=None, code=0, given="", module="lora_tune", **environment):
    """Run a command in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=ROOT,
        env=hub.environment(cache, token) | {"OMP_NUM_THREADS": "1"} | environment,
        input=given,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def line(done):
    (message,) = done.stderr.splitlines()
    return message


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def push(hub, cache):
    """Push in a process that runs one command after the other."""
    with CommandServer(hub.environment(cache) | {"OMP_NUM_THREADS": "1"}) as server:

        def push(*words, token=None, code=0):
            done = server.run("push", *words, token=token)
            assert done.returncode == code, done.stdout + done.stderr
            return done

        yield push


@pytest.fixture(scope="module")
def adapter(hub, cache, tmp_path_factory):
    run = tmp_path_factory.mktemp("run") / "out"
    words = ["model.name=acme/tiny-base", "data.train.samples=40", "training.num_train_epochs=2"]
    words += ["training.learning_rate=0.003", "training.per_device_train_batch_size=4"]
    command = ["train", "quickstart", *words, "--output", run]
    lora_tune(hub, cache, *command, module="tests.train_unchecked")
    return run / "adapter"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def pushed(hub, push, adapter):
    before = contents(adapter)
    (adapter / ".env").write_text("NOT_FOR_OTHERS=1")
    done = push(adapter, REPOSITORY, "--private", token=hub.token)
    (adapter / ".env").unlink()
    assert contents(adapter) == before
    return done


def test_only_the_adapters_files_are_uploaded_and_listed(hub, adapter, pushed):
    there = hub.files(REPOSITORY)
    assert set(there) == set(contents(adapter))
    assert hub.is_private(REPOSITORY)
    for name, content in contents(adapter).items():
        if name != "README.md":
            assert there[name] == content
    listed = dict(re.findall(r"^(\S+) +([\d,]+)$", pushed.stdout, re.MULTILINE))
    sizes = {name: f"{len(content):,}" for name, content in there.items()}
    assert listed == sizes | {"total": f"{sum(map(len, there.values())):,}"}
    ways = {name: way for name, (way, _) in hub.received.items()}
    assert ways["adapter_model.safetensors"] == "lfs"
    assert ways["README.md"] == ways["manifest.json"] == "inline"
    assert hub.received["adapter_model.safetensors"][1] == len(there["adapter_model.safetensors"])
    assert f"Use it: lora-tune predict {REPOSITORY} --text" in pushed.stdout


def test_the_token_is_not_written_or_printed(hub, adapter, pushed):
    places = [pushed.stdout, pushed.stderr, *map(str, hub.files(REPOSITORY).values())]
    places += [str(path.read_bytes()) for path in adapter.parent.rglob("*") if path.is_file()]
    assert not [place for place in places if hub.token in place]


def test_the_hub_understands_the_card(hub, pushed):
    from huggingface_hub import ModelCard

    card = ModelCard(hub.files(REPOSITORY)["README.md"].decode())
    assert card.data.base_model == "acme/tiny-base"
    assert card.data.library_name == "peft"
    assert card.data.pipeline_tag == "text-classification"
    metrics = {result.metric_type for result in card.data.eval_results}
    assert metrics == {"accuracy", "macro_f1", "loss"}
    assert f'from_pretrained("{REPOSITORY}")' in card.text
    assert "PATH-OR-REPO" not in card.text
    for words in (
        "## Results",
        "trainable parameters",
        "## Intended use and limits",
    ):
        assert words in card.text


def test_an_adapter_on_the_hub_predicts_as_the_local_one(hub, adapter, pushed, cache, tmp_path):
    """With lora_tune and with plain PEFT, each in a fresh process with an empty cache."""
    lines = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    words = ["--input", "-", "--format", "jsonl", "--output", "-"]
    local = lora_tune(hub, cache, "predict", adapter, *words, given=lines)
    there = lora_tune(
        hub, tmp_path / "1", "predict", REPOSITORY, *words, given=lines, token=hub.read_token
    )
    assert there.stdout == local.stdout
    rows = [json.loads(row) for row in local.stdout.splitlines()]
    assert len({row["label"] for row in rows} | {row["p_negative"] for row in rows}) > 2
    card = hub.files(REPOSITORY)["README.md"].decode()
    environment = hub.environment(tmp_path / "2", hub.read_token)
    predictions = ask_plain_peft(card, TEXTS, environment=environment)
    for row, (label, probabilities) in zip(rows, predictions, strict=True):
        assert label == row["label"]
        assert probabilities == pytest.approx([row["p_negative"], row["p_positive"]], abs=1e-6)


def test_a_baseline_on_the_hub_predicts_as_in_the_run(hub, push, adapter, tmp_path):
    """In a fresh process with an empty cache; a linear probe gets its base model from the Hub."""
    from huggingface_hub import ModelCard

    baseline = adapter.parent / "baseline"
    name = json.loads((baseline / "manifest.json").read_text())["kind"]
    done = push(baseline, "me/baseline", token=hub.token)
    there = hub.files("me/baseline")
    assert set(there) == set(contents(baseline))
    assert not [name for name in there if not name.endswith((".json", ".safetensors", ".md"))]
    assert "Use it: lora-tune predict me/baseline --text" in done.stdout
    card = ModelCard(there["README.md"].decode())
    assert card.data.library_name is None
    assert card.data.base_model == ("acme/tiny-base" if name == "linear_probe" else None)
    assert 'load_adapter("me/baseline")' in card.text
    rows = list(zip(*reviews("test"), strict=True))
    lines = "".join(json.dumps({"text": text}) + "\n" for text, _ in rows)
    words = ["me/baseline", "--input", "-", "--format", "jsonl", "--output", "-"]
    found = lora_tune(hub, tmp_path, "predict", *words, given=lines, token=hub.read_token)
    predicted = [json.loads(row)["label"] for row in found.stdout.splitlines()]
    run = (adapter.parent / "predictions.jsonl").read_text().splitlines()
    assert predicted == [json.loads(row)["predictions"][name] for row in run]


def test_evaluate_and_merge_take_a_hub_id(hub, pushed, tmp_path, adapter):
    here = tmp_path / "cache"
    trained = json.loads((adapter.parent / "comparison.json").read_text())
    words = ["evaluate", REPOSITORY, "--output", tmp_path / "again.json"]
    lora_tune(hub, here, *words, token=hub.read_token)
    again = json.loads((tmp_path / "again.json").read_text())
    for side in ("base", "adapted"):  # the untrained head is drawn again with the same seed
        assert again[side] == pytest.approx(trained[side], abs=1e-6)
    assert again["test_rows"] == trained["test_rows"]
    words = ["merge", REPOSITORY, "--output", tmp_path / "merged"]
    done = lora_tune(hub, here, *words, token=hub.read_token)
    assert "0 of 396" in done.stdout
    assert (tmp_path / "merged" / "model.safetensors").is_file()


def test_a_damaged_download_is_refused(hub, pushed, tmp_path):
    files = hub.files(REPOSITORY)
    content = bytearray(files["adapter_model.safetensors"])
    content[-1] ^= 1
    hub.add("me/damaged", files | {"adapter_model.safetensors": bytes(content)})
    message = line(lora_tune(hub, tmp_path, "predict", "me/damaged", "--text", "x", code=2))
    assert "was changed since training" in message
    hub.add("me/plain", {"adapter_config.json": files["adapter_config.json"]})
    message = line(lora_tune(hub, tmp_path, "predict", "me/plain", "--text", "x", code=2))
    assert "has no " in message


def test_a_revision_is_uploaded_and_loaded(hub, push, adapter, pushed, tmp_path):
    done = push(adapter, REPOSITORY, "--revision", "trial/2", token=hub.token)
    assert f"lora-tune predict {REPOSITORY}@trial/2" in done.stdout
    assert set(hub.files(REPOSITORY, revision="trial/2")) == set(hub.files(REPOSITORY))
    words = ["predict", f"{REPOSITORY}@trial/2", "--text", "Lovely."]
    assert "Lovely." in lora_tune(hub, tmp_path, *words, token=hub.token).stdout
    words = ["predict", f"{REPOSITORY}@v3", "--text", "Lovely."]
    message = line(lora_tune(hub, tmp_path, *words, token=hub.token, code=2))
    assert "this adapter has no revision 'v3'" in message


def test_a_dry_run_uploads_nothing(hub, push, adapter):
    before = len(hub.requests)
    done = push(adapter, "me/dry", "--dry-run")
    assert "total" in done.stdout
    assert "Dry run: nothing was uploaded." in done.stdout
    assert len(hub.requests) == before


@pytest.mark.parametrize(
    ("token", "repository", "words"),
    [
        (None, "me/new", "found no token, expected one: run `hf auth login` or set HF_TOKEN"),
        ("read", "me/new", "the token has no write access"),
        ("hf_" + "z" * 34, "me/new", "the token is invalid"),
        ("write", "new", "expected owner/name, such as me/new"),
        ("write", "me/a b", "not a valid repository name"),
    ],
)
def test_a_push_that_is_not_allowed(hub, push, adapter, token, repository, words):
    before = contents(adapter)
    token = {"read": hub.read_token, "write": hub.token}.get(token, token)
    done = push(adapter, repository, token=token, code=2)
    assert words in line(done)
    assert not (token and token in done.stdout + done.stderr)
    assert contents(adapter) == before
    with pytest.raises(KeyError):
        hub.files("me/new")


def test_an_override_is_not_an_option_of_push(hub, push, adapter):
    done = push(adapter, "me/open", "private=true", token=hub.token, code=2)
    assert "unrecognized arguments: private=true" in done.stderr
    with pytest.raises(KeyError):
        hub.files("me/open")


def test_a_card_with_invalid_metadata_is_reported(hub, cache, push, adapter, tmp_path):
    mine = shutil.copytree(adapter, tmp_path / "adapter")
    (mine / "README.md").write_text("---\nlicense: [no end\n---\nMine.")
    message = line(push(mine, "me/card", token=hub.token, code=2))
    assert "nothing was uploaded: " in message
    assert "README.md" in message
    words = ["push", adapter, "me/offline"]
    done = lora_tune(hub, cache, *words, token=hub.token, code=2, HF_HUB_OFFLINE="1")
    assert "nothing was uploaded: " in line(done)


def test_private_is_refused_for_a_public_repository(hub, push, adapter):
    hub.add("me/public", {})
    message = line(push(adapter, "me/public", "--private", token=hub.token, code=2))
    assert "exists and is public" in message
    assert hub.files("me/public") == {}


@pytest.mark.parametrize(
    ("method", "pattern", "status"),
    [
        ("POST", "repos/create", 500),
        ("PUT", "^/lfs/", 500),
        ("PUT", "^/lfs/", "drop"),
        ("POST", "/commit/", 503),
        ("POST", "/commit/", "drop"),
    ],
)
def test_one_failure_of_the_hub_is_retried(hub, push, adapter, method, pattern, status):
    name = f"me/retried-{re.sub('[^a-z]', '', pattern)}-{status}"
    hub.fail(method, pattern, status=status)
    push(adapter, name, token=hub.token)
    assert set(hub.files(name)) == set(contents(adapter))


def test_repeated_failures_of_the_hub_get_one_line(hub, push, adapter):
    before = contents(adapter)
    hub.fail("POST", "/commit/", status=500, times=3)
    message = line(push(adapter, "me/failing", token=hub.token, code=2))
    assert "HTTP 500; the local adapter is unchanged: run the same command again" in message
    assert contents(adapter) == before
    push(adapter, "me/failing", token=hub.token)
    assert set(hub.files("me/failing")) == set(before)


def test_an_interrupted_download(hub, pushed, tmp_path):
    words = ["predict", REPOSITORY, "--text", "Lovely."]
    hub.fail("GET", "resolve/.*/adapter_model.safetensors", status=500)
    message = line(lora_tune(hub, tmp_path, *words, token=hub.token, code=2))
    assert "the download was interrupted" in message
    assert "run the same command again to resume it" in message
    hub.fail("GET", "resolve/.*/adapter_model.safetensors", status="drop")
    lora_tune(hub, tmp_path, *words, token=hub.token)


def test_a_cached_adapter_needs_no_hub(hub, pushed, tmp_path):
    words = ["predict", REPOSITORY, "--text", "Lovely."]
    online = lora_tune(hub, tmp_path, *words, token=hub.token)
    offline = lora_tune(hub, tmp_path, *words, HF_HUB_OFFLINE="1")
    assert offline.stdout == online.stdout
    empty = lora_tune(hub, tmp_path / "empty", *words, HF_HUB_OFFLINE="1", code=2)
    assert (
        f"{REPOSITORY}: this adapter cannot be fetched from {hub.endpoint} (offline mode"
        in line(empty)
    )
    assert "(and there is no folder me/reviews here)" in line(empty)


def test_an_unknown_adapter_gets_one_line(hub, tmp_path):
    message = line(lora_tune(hub, tmp_path, "predict", "me/nowhere", "--text", "x", code=2))
    assert f"me/nowhere: on {hub.endpoint} there is no such adapter, or it is private" in message
