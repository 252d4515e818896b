"""lora_tune beside its peers, each in an environment of its own, on one work: `make peers`.

Every contestant is a script of benchmarks/peers in a fresh process, which loads, trains, answers
the test rows and prints JSON; time and memory are measured from outside. One that does not
install, start or end in time is a row too. Writes peers.json, .md and .svg, beside what was
measured on other processors.
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

from contest import (
    Contestant,
    Run,
    Work,
    find_fault,
    make_environment,
    measure_loss,
    read_rows,
    run_contestant,
)
from kept_output import RESULTS, name_processor
from peers_page import TUNED, draw_classifiers, write_page

from lora_tune.base import find_base
from lora_tune.environment import describe_environment
from lora_tune.recipe import ModelConfig

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CLASSIFIERS = [
    Contestant("words alone", "words"),
    Contestant("head alone", "ours head"),
    Contestant("PEFT, Trainer", "tutorial"),
    Contestant(TUNED, "tutorial tuned"),
    Contestant(f"{TUNED}, no dropout", "tutorial tuned still"),
    Contestant("lora_tune, same settings", "ours same"),
    Contestant("lora_tune, same settings, no dropout", "ours still"),
    Contestant("lora_tune", "ours"),
    Contestant("adapters", "adapters_trainer", "adapters==1.3.0 accelerate==1.15.0"),
    Contestant("NeMo AutoModel", "automodel_recipe", "nemo-automodel==0.7.0 triton==3.7.1"),
    Contestant("Ludwig", "ludwig_model", "ludwig==0.11.0 peft==0.21.2"),
    Contestant("SetFit", "setfit_trainer", "setfit==1.2.0"),
]
WRITERS = [
    Contestant("PEFT, Trainer", "tutorial_causal"),
    Contestant(TUNED, "tutorial_causal tuned"),
    Contestant("lora_tune", "ours_causal"),
    Contestant("TRL", "trl_sft", "trl==1.16.* peft==0.21.2"),
    Contestant("LLaMA-Factory", "llamafactory_pt", "llamafactory==0.9.5", "torchvision torchaudio"),
]


def main(arguments: Sequence[str] | None = None) -> None:
    """Install, run, compare, write."""
    options = _read_options(arguments)
    file = options.results / "peers.json"
    records: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    environment = describe_environment("cpu")
    name = name_processor(environment)
    # Some contestants alone are put beside what was kept of the others.
    kept: dict[str, Any] = records.get(name, {}) if options.only else {}
    kept["rows"] = options.rows
    commands = kept.setdefault("commands", {})  # of each contestant's last runs
    with tempfile.TemporaryDirectory() as folder:
        work = _apart(_reviews, options, Path(folder))
        kept["test_rows"] = len(read_rows(work.test))
        done = kept.get("classification", {}) | _run_all(CLASSIFIERS, work, options)
        commands |= _tell(CLASSIFIERS, options, environment)
        kept["classification"] = {c.name: done[c.name] for c in CLASSIFIERS if c.name in done}
        if options.causal_base:
            work = _apart(_texts, options, Path(folder))
            kept["tokens"] = sum(row["tokens"] for row in read_rows(work.train))
            kept["base_loss"] = measure_loss(work)["loss"]
            done = kept.get("causal", {}) | _run_all(WRITERS, work, options)
            commands |= _tell(WRITERS, options, environment)
            kept["causal"] = {c.name: done[c.name] for c in WRITERS if c.name in done}
    kept["versions"] = environment["versions"]
    records[name] = kept
    # Where most were run comes first.
    records = dict(sorted(records.items(), key=lambda item: -len(item[1]["classification"])))
    file.write_text(json.dumps(records, indent=1) + "\n")
    (options.results / "peers.md").write_text(write_page(records))
    (options.results / "peers.svg").write_text(draw_classifiers(next(iter(records.values()))))


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="lora_tune beside its peers on one work.")
    parser.add_argument("data", type=Path, help="a folder with IMDb's train and test .parquet")
    parser.add_argument("--causal-base", type=Path, help="a folder with a GPT-2; none: no causal")
    parser.add_argument("--rounds", type=int, default=1, help="seeds 1 to ROUNDS, interleaved")
    parser.add_argument("--once", nargs="*", default=[], metavar="SCRIPT", help="for seed 1 alone")
    parser.add_argument("--rows", type=int, default=1000, help="of train, and as many of test")
    parser.add_argument("--limit", type=float, default=900, help="seconds for each contestant")
    parser.add_argument("--only", nargs="*", metavar="SCRIPT", help="of benchmarks/peers")
    parser.add_argument("--environments", type=Path, default=Path(".peers"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    known = {contestant.script for contestant in (*CLASSIFIERS, *WRITERS)}
    if unknown := {*(options.only or []), *options.once} - known:
        parser.error(f"no contestant is called {', '.join(sorted(unknown))}")
    return options


def _run_all(
    contestants: Sequence[Contestant], work: Work, options: argparse.Namespace
) -> dict[str, list[Run]]:
    """Install contestants, then run them, a seed at a time, so that a slow moment hits all."""
    only = set(options.only or [])
    chosen = [c for c in contestants if not only or c.script in only]
    runs: dict[str, list[Run]] = {contestant.name: [] for contestant in chosen}
    pythons = {}
    for contestant in chosen:
        try:
            pythons[contestant] = make_environment(contestant, options.environments)
        except subprocess.CalledProcessError as error:
            runs[contestant.name].append(find_fault(contestant, error))
    for seed in range(1, options.rounds + 1):
        for contestant, python in pythons.items():
            if seed > 1 and contestant.script in options.once:
                continue
            with tempfile.TemporaryDirectory() as folder:
                mine = replace(work, seed=seed, folder=folder)
                run = run_contestant(contestant, python, mine, options.limit)
            runs[contestant.name].append(run)
            print(f"seed {seed}, {contestant.name}: {json.dumps(run)}", flush=True)
    return runs


def _apart(
    make: Callable[[argparse.Namespace, Path], Work], options: argparse.Namespace, folder: Path
) -> Work:
    """Prepare rows in a process that ends: a child's peak memory is at least its parent's."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(make, options, folder).result()


def _reviews(options: argparse.Namespace, folder: Path) -> Work:
    files = [
        _write_rows(folder / f"{split}.jsonl", _first_rows(options.data, split, options.rows))
        for split in ("train", "test")
    ]
    base = str(find_base(ModelConfig(MINILM)).folder)
    return Work(base, *files, "", ["query", "value"], epochs=3, batch=16, seed=0)


def _texts(options: argparse.Namespace, folder: Path) -> Work:
    """Cut texts beforehand, so that all have the same tokens however they cut or pack."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(options.causal_base / "tokenizer.json"))
    tokenizer.enable_truncation(Work.max_length - 2)  # room for what stands before and behind
    files = []
    for split, share in (("train", 2), ("test", 5)):
        texts = [row["text"] for row in _first_rows(options.data, split, options.rows // share)]
        codes = tokenizer.encode_batch(texts, add_special_tokens=False)
        cut = [
            {"text": text[: code.offsets[-1][1]], "tokens": len(code.ids)}
            for text, code in zip(texts, codes, strict=True)
        ]
        files.append(_write_rows(folder / f"causal_{split}.jsonl", cut))
    return Work(str(options.causal_base), *files, "", ["c_attn"], epochs=1, batch=8, seed=0)


def _first_rows(data: Path, split: str, rows: int) -> list[dict[str, Any]]:
    from pyarrow import parquet

    table = parquet.read_table(data / f"{split}.parquet", columns=["text", "label"])
    return list(table.slice(0, rows).to_pylist())


def _write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _tell(
    contestants: Sequence[Contestant], options: argparse.Namespace, environment: dict[str, Any]
) -> dict[str, str]:
    """Say what was run for each that was, and at which commit."""
    words = ["python benchmarks/peers.py DATA"]
    words += ["--causal-base BASE"] if options.causal_base else []
    for name in ("only", "once"):
        scripts = " ".join(shlex.quote(script) for script in getattr(options, name) or [])
        words += [f"--{name} {scripts}"] if scripts else []
    told = " ".join([*words, f"--rounds {options.rounds} --limit {options.limit:g}"])
    told += f"  # at {(environment['git'] or {}).get('commit', 'no known commit')[:7]}"
    return {c.script: told for c in contestants if c.script in (options.only or [c.script])}


if __name__ == "__main__":
    main()
