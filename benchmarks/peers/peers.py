"""lora_tune compared with other tools, each in its own environment, on one job: `make peers`.

Every contestant is a script of benchmarks/peers/scripts. In a fresh process it loads the base
model, trains, predicts the test rows or saves an adapter, and prints JSON; time and memory are
measured from outside. One that cannot be installed, fails, or takes too long is a row of the table
too. Adds a record of this processor to results/peers.json; writes results/peers.md and peers.svg.
"""

import argparse
import json
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.kept_output import RESULTS, name_processor
from benchmarks.peers.contest import (
    Contestant,
    Run,
    describe_failed_installation,
    make_environment,
    measure_loss,
    run_contestant,
)
from benchmarks.peers.job import Job, read_rows
from benchmarks.peers.peers_page import TUNED, read_records, write_pages
from lora_tune.config.model import ModelConfig
from lora_tune.models.checkpoint import resolve_checkpoint
from lora_tune.system.environment import describe_environment

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CLASSIFIERS = [
    Contestant("TF-IDF baseline", "tfidf"),
    Contestant("linear probe", "ours linear_probe"),
    Contestant("PEFT, Trainer", "tutorial"),
    Contestant(TUNED, "tutorial tuned"),
    Contestant(f"{TUNED}, no dropout", "tutorial tuned no_dropout"),
    Contestant("lora_tune, same settings", "ours same"),
    Contestant("lora_tune, same settings, no dropout", "ours no_dropout"),
    Contestant("lora_tune", "ours"),
    Contestant("adapters", "adapters_trainer", "adapters==1.3.0 accelerate==1.15.0"),
    Contestant("NeMo AutoModel", "automodel_recipe", "nemo-automodel==0.7.0 triton==3.7.1"),
    Contestant("Ludwig", "ludwig_model", "ludwig==0.11.0 peft==0.21.2"),
    Contestant("SetFit", "setfit_trainer", "setfit==1.2.0"),
]
LANGUAGE_MODELS = [
    Contestant("PEFT, Trainer", "tutorial_causal"),
    Contestant(TUNED, "tutorial_causal tuned"),
    Contestant("lora_tune", "ours_causal"),
    Contestant("TRL", "trl_sft", "trl==1.16.* peft==0.21.2"),
    Contestant("LLaMA-Factory", "llamafactory_pt", "llamafactory==0.9.5", "torchvision torchaudio"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Install and run the contestants, then write the record and the page."""
    options = _parse_arguments(arguments)
    records = read_records(options.results)
    environment = describe_environment("cpu")
    processor = name_processor(environment)
    # With --only, what was recorded of the other contestants is kept.
    record: dict[str, Any] = records.get(processor, {}) if options.only else {}
    record["rows"] = options.rows
    commands = record.setdefault("commands", {})  # by script, of its last runs
    with tempfile.TemporaryDirectory() as folder:
        job = _make_in_subprocess(_make_classification_job, options, Path(folder))
        record["test_rows"] = len(read_rows(job.test))
        done = record.get("classification", {}) | _run_all(CLASSIFIERS, job, options)
        commands |= _name_commands(CLASSIFIERS, options, environment)
        record["classification"] = {c.name: done[c.name] for c in CLASSIFIERS if c.name in done}
        if options.causal_base:
            job = _make_in_subprocess(_make_causal_job, options, Path(folder))
            record["tokens"] = sum(row["tokens"] for row in read_rows(job.train))
            record["base_loss"] = measure_loss(job)["loss"]
            done = record.get("causal", {}) | _run_all(LANGUAGE_MODELS, job, options)
            commands |= _name_commands(LANGUAGE_MODELS, options, environment)
            record["causal"] = {c.name: done[c.name] for c in LANGUAGE_MODELS if c.name in done}
    record["versions"] = environment["versions"]
    records[processor] = record
    # The processor with the most contestants comes first.
    records = dict(sorted(records.items(), key=lambda item: -len(item[1]["classification"])))
    (options.results / "peers.json").write_text(json.dumps(records, indent=1) + "\n")
    write_pages(options.results)


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare lora_tune with other tools on one job.")
    parser.add_argument("data", type=Path, help="a folder with IMDb's train and test .parquet")
    parser.add_argument("--causal-base", type=Path, help="a folder with a GPT-2; none: no causal")
    parser.add_argument("--rounds", type=int, default=1, help="seeds 1 to ROUNDS, interleaved")
    parser.add_argument("--once", nargs="*", default=[], metavar="SCRIPT", help="for seed 1 only")
    parser.add_argument("--rows", type=int, default=1000, help="of train, and as many of test")
    parser.add_argument("--limit", type=float, default=900, help="seconds for each contestant")
    parser.add_argument("--only", nargs="*", metavar="SCRIPT", help="run only these contestants")
    parser.add_argument("--environments", type=Path, default=Path(".peers"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    known = {contestant.script for contestant in (*CLASSIFIERS, *LANGUAGE_MODELS)}
    if unknown := {*(options.only or []), *options.once} - known:
        parser.error(
            f"found no contestant {', '.join(sorted(unknown))}; there are "
            f"{', '.join(sorted(known))}"
        )
    return options


def _run_all(
    contestants: Sequence[Contestant], job: Job, options: argparse.Namespace
) -> dict[str, list[Run]]:
    """Install contestants, then run them seed by seed, so that a slow moment affects all."""
    only = set(options.only or [])
    chosen = [c for c in contestants if not only or c.script in only]
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in chosen}
    pythons = {}
    for contestant in chosen:
        try:
            pythons[contestant] = make_environment(contestant, options.environments)
        except subprocess.CalledProcessError as error:
            runs[contestant.name].append(describe_failed_installation(contestant, error))
    for seed in range(1, options.rounds + 1):
        for contestant, python in pythons.items():
            if seed > 1 and contestant.script in options.once:
                continue
            with tempfile.TemporaryDirectory() as folder:
                own = replace(job, seed=seed, folder=folder)
                run = run_contestant(contestant, python, own, options.limit)
            runs[contestant.name].append(run)
            print(f"seed {seed}, {contestant.name}: {json.dumps(run)}", flush=True)
    return runs


def _make_in_subprocess(
    make: Callable[[argparse.Namespace, Path], Job], options: argparse.Namespace, folder: Path
) -> Job:
    """Make a job in another process, since the peak memory of a child is at least its parent's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(make, options, folder).result()


def _make_classification_job(options: argparse.Namespace, folder: Path) -> Job:
    files = {
        split: _write_rows(
            folder / f"{split}.jsonl", _first_rows(options.data, split, options.rows)
        )
        for split in ("train", "test")
    }
    return Job(
        base=str(resolve_checkpoint(ModelConfig(MINILM)).folder),
        train=files["train"],
        test=files["test"],
        folder="",  # one for each run
        modules=["query", "value"],
        epochs=3,
        batch=16,
        seed=0,  # one for each run
    )


def _make_causal_job(options: argparse.Namespace, folder: Path) -> Job:
    """Truncate texts beforehand: all contestants train on the same tokens, packed or not."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(options.causal_base / "tokenizer.json"))
    tokenizer.enable_truncation(Job.max_length - 2)  # leaves room for special tokens
    files = {}
    for split, share in (("train", 2), ("test", 5)):
        texts = [row["text"] for row in _first_rows(options.data, split, options.rows // share)]
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
        truncated = [
            {"text": text[: encoding.offsets[-1][1]], "tokens": len(encoding.ids)}
            for text, encoding in zip(texts, encodings, strict=True)
        ]
        files[split] = _write_rows(folder / f"causal_{split}.jsonl", truncated)
    return Job(
        base=str(options.causal_base.absolute()),
        train=files["train"],
        test=files["test"],
        folder="",  # one for each run
        modules=["c_attn"],
        epochs=1,
        batch=8,
        seed=0,  # one for each run
    )


def _first_rows(data: Path, split: str, rows: int) -> list[dict[str, Any]]:
    from pyarrow import parquet

    table = parquet.read_table(data / f"{split}.parquet", columns=["text", "label"])
    return list(table.slice(0, rows).to_pylist())


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _name_commands(
    contestants: Sequence[Contestant], options: argparse.Namespace, environment: dict[str, Any]
) -> dict[str, str]:
    """Name this command and its commit, for the script of each contestant that ran."""
    words = ["python -m benchmarks.peers.peers DATA"]
    words += ["--causal-base BASE"] if options.causal_base else []
    for name in ("only", "once"):
        scripts = " ".join(shlex.quote(script) for script in getattr(options, name) or [])
        words += [f"--{name} {scripts}"] if scripts else []
    words += [f"--rounds {options.rounds} --limit {options.limit:g}"]
    commit = (environment["git"] or {}).get("commit", "an unknown commit")[:7]
    command = f"{' '.join(words)}  # at {commit}"
    return {c.script: command for c in contestants if c.script in (options.only or [c.script])}


if __name__ == "__main__":
    main()
