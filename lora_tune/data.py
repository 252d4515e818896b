"""From a data source to labelled, tokenised splits, and what there is to know about them."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_tune.cache import LENGTHS, Arrays, hash_rows, pack, recall, unpack
from lora_tune.data_checks import (
    check_answers,
    check_balance,
    check_copies,
    check_cuts,
    is_selected_on_test,
)
from lora_tune.errors import DataError, RowError
from lora_tune.recipe import DataConfig, SplitConfig
from lora_tune.rows import Rows, Split
from lora_tune.sources import EMBEDDED_PREFIX, Source, open_source, read_file
from lora_tune.suggestions import did_you_mean
from lora_tune.tasks import Task
from lora_tune.tasks.writing_task import WritingTask
from lora_tune.texts import ROW

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Data:
    """Everything that a model is trained, selected and tested on."""

    train: Split
    validation: Split
    test: Split
    labels: list[str]
    max_length: int
    commit: str | None  # of a Hub dataset
    copies: list[str]  # what is to be said of texts that stand in two splits
    caveats: list[str]  # what a reader of any number from it must know; copies among it
    selected_on_test: bool  # validation rows are largely copies of test rows

    class_weights: list[float] | None  # of the training loss, in the order of labels
    tallies: dict[str, dict[str, int]]  # split -> label -> rows, or what they hold, with it

    @property
    def splits(self) -> dict[str, Split]:
        """The three splits by name."""
        return {name: getattr(self, name) for name in SPLITS}

    def fingerprint(self, splits: Sequence[str] = SPLITS) -> str:
        """Hash texts and labels of splits, in order (SHA-256)."""
        digest = hashlib.sha256()
        for name, split in ((name, self.splits[name]) for name in splits):
            digest.update(f"{name} {len(split.rows.texts)}\n".encode())
            for text, label in zip(split.rows.texts, split.rows.label_texts, strict=True):
                digest.update(f"{len(text)} {label} {text}\n".encode())
        return digest.hexdigest()


def load_data(config: DataConfig, task: Task, tokenizer: "PreTrainedTokenizerBase") -> Data:
    """Read, label, cut and tokenise the splits that a recipe names.

    Raises:
        DataError: a file, split, column, label or row is not as the recipe says.
    """
    source = open_source(config)
    raw = {"train": _read_split("train", config.train, config, task, source)}
    for name in ("validation", "test"):
        split: SplitConfig = getattr(config, name)
        if split.file or split.split or not split.fraction:
            raw[name] = _read_split(name, split, config, task, source)
    labels = task.find_labels(raw["train"], config)

    def label_rows(name: str) -> Rows:
        origin = _find_origin(name, getattr(config, name), config, source)
        where = f"data.{name}"
        return _label_rows(name, raw[name], config, task, labels, origin=origin, where=where)

    rows = {"train": label_rows("train")}
    if task.has_classes and len(np.unique(rows["train"].labels)) < 2:
        raise DataError(
            f"data.train: all {len(rows['train'].texts)} rows are labelled "
            f"{labels[rows['train'].labels[0]]!r}, expected at least 2 classes; if the source is "
            "sorted by label, draw at random with data.train.samples"
        )
    for name in raw.keys() - rows.keys():
        rows[name] = label_rows(name)
    # Carved after sampling, test first, so that naming validation changes no test row.
    for name in ("test", "validation"):
        if name not in rows:
            rows["train"], rows[name] = _carve(name, rows["train"], config, task)
    if config.train_rows is not None:
        rows["train"] = _take(rows["train"], config, task)
    _check_disjoint(rows)
    splits = {name: _tokenise(rows[name], tokenizer, config, task) for name in SPLITS}
    texts = {name: rows[name].texts for name in SPLITS}
    copies = list(check_copies(texts))
    return Data(
        **splits,
        labels=labels,
        max_length=config.max_length,
        commit=source.commit,
        copies=copies,
        caveats=[*copies, *_caveats(config, splits, task)],
        selected_on_test=is_selected_on_test(texts),
        class_weights=_weigh(config, rows["train"]),
        tallies={name: dict(task.tally(rows[name].labels, labels)) for name in SPLITS},
    )


def load_file(
    path: Path,
    config: DataConfig,
    task: Task,
    *,
    labels: list[str],
    tokenizer: "PreTrainedTokenizerBase",
) -> Split:
    """Read, label and tokenise the rows of one file, with a recipe's columns.

    Raises:
        DataError: the file, a column, a label or a row is not as it should be.
    """
    raw = _number_rows(read_file(path), config, task, where=str(path))
    rows = _label_rows(
        "data", raw, config, task, labels, origin=str(path.resolve()), where=str(path)
    )
    return _tokenise(rows, tokenizer, config, task)


def _check_disjoint(rows: dict[str, Rows]) -> None:
    """Refuse a row that stands in two splits: nothing is trained or selected on test rows."""
    taken: dict[tuple[str, int], str] = {}
    for name in SPLITS:
        shared = [taken[row] for row in rows[name].identities if row in taken]
        if shared:
            raise DataError(
                f"data.{name}: {len(shared)} of its {len(rows[name].texts)} rows are rows of "
                f"{shared[0]} too ({rows[name].origin}); name another split or file, or carve it "
                f"from train with data.{name}.fraction"
            )
        taken |= dict.fromkeys(rows[name].identities, name)


def _caveats(config: DataConfig, splits: Mapping[str, Split], task: Task) -> Iterator[str]:
    if config.source.startswith(EMBEDDED_PREFIX):
        yield f"{config.source} is a demonstration written for lora_tune, no benchmark."
    train = splits["train"].rows
    if task.has_classes:
        yield from check_balance(train.labels, train.names)
    side = None if isinstance(task, WritingTask) else config.truncation_side
    yield from check_cuts(splits["test"].token_counts, config.max_length, side)
    if task.has_classes:
        yield from check_answers(train.texts, train.labels, train.names)


def _find_origin(name: str, split: SplitConfig, config: DataConfig, source: Source) -> str:
    """Name what a split is read from: a file, by its path, or else a split of the source."""
    if not split.file:
        wanted = split.split or name
        file = source.files.get(wanted)
        return str(file.resolve()) if file else wanted
    inside = Path(config.source).expanduser() / split.file
    return str((inside if inside.is_file() else Path(split.file).expanduser()).resolve())


def _read_split(
    name: str, split: SplitConfig, config: DataConfig, task: Task, source: Source
) -> "Dataset":
    """Read one split's raw rows, cut to its shard and samples, with a column for their places."""
    key = f"data.{name}"
    if split.file:
        rows = read_file(Path(_find_origin(name, split, config, source)))
    else:
        rows = source.read(split.split or name, key=key)
    rows = _number_rows(rows, config, task, where=key)
    if split.shards is not None:
        rows = rows.shard(num_shards=split.shards, index=split.shard)
    if split.samples is not None:
        if split.samples > len(rows):
            raise DataError(
                f"{key}.samples: asks for {split.samples} rows, found {len(rows)}; "
                f"{key}.samples=null takes all"
            )
        rows = rows.shuffle(seed=config.seed).select(range(split.samples))
    if not len(rows):
        raise DataError(f"{key}: found no rows")
    return rows


def _number_rows(rows: "Dataset", config: DataConfig, task: Task, *, where: str) -> "Dataset":
    """Add a column for the rows' places, once the columns that the recipe names are there."""
    for key, column in task.columns(config):
        if column not in rows.column_names:
            near = did_you_mean(column, rows.column_names)
            raise DataError(
                f"data.{key}: {where} has no column {column!r}{near}; it has "
                f"{', '.join(rows.column_names)}"
            )
    return rows.add_column(ROW, np.arange(len(rows)))


def _label_rows(
    name: str,
    raw: "Dataset",
    config: DataConfig,
    task: Task,
    labels: list[str],
    *,
    origin: str,
    where: str,
) -> Rows:
    texts, inputs, numbers, told = task.read_rows(raw, config, labels, where=where)
    return Rows(name, origin, list(raw[ROW]), texts, inputs, numbers, told, labels)


def _carve(name: str, rows: Rows, config: DataConfig, task: Task) -> tuple[Rows, Rows]:
    """Take a share of the training rows, of each class alike; return the rest and the share."""
    from sklearn.model_selection import train_test_split

    fraction = getattr(config, name).fraction
    size = round(fraction * len(rows.texts))
    counts = np.bincount(rows.labels) if task.has_classes else np.array([len(rows.texts)])
    present = int((counts > 0).sum())
    if size < present or counts[counts > 0].min() < 2 or len(rows.texts) - size < present:
        found = task.tally(rows.labels, rows.names).items() if task.has_classes else ()
        shown = f" ({', '.join(f'{label} {count}' for label, count in found)})" if found else ""
        left = "row of some class" if found else "row"
        raise DataError(
            f"data.{name}.fraction: {fraction} of {len(rows.texts)} training rows{shown} leaves "
            f"no {left} on one side; name rows with data.{name}.file or .split"
        )
    kept, carved = train_test_split(
        np.arange(len(rows.texts)),
        test_size=size,
        random_state=config.seed,
        stratify=rows.labels if task.has_classes else None,
    )
    return rows.select("train", kept), rows.select(name, carved)


def _take(rows: Rows, config: DataConfig, task: Task) -> Rows:
    """Draw so many training rows that fewer of the same seed lie within more."""
    count, available = config.train_rows, len(rows.texts)
    if count is None or count > available:
        raise DataError(
            f"data.train_rows: asks for {count} rows; validation and test leave {available}"
        )
    order = np.random.default_rng(config.seed).permutation(available)
    drawn = rows.select("train", order[:count].tolist())
    if task.has_classes and len(np.unique(drawn.labels)) < 2:
        raise DataError(
            f"data.train_rows: all {count} rows drawn are labelled {drawn.label_texts[0]!r}; "
            "ask for more"
        )
    return drawn


def _weigh(config: DataConfig, train: Rows) -> list[float] | None:
    """The weight of each class; balanced, it is rows / (classes * the class's rows)."""
    if config.class_weights != "balanced":
        return config.class_weights
    counts = np.bincount(train.labels, minlength=len(train.names))
    present = counts > 0
    return [
        float(counts.sum() / (present.sum() * count)) if count else 0.0 for count in counts.tolist()
    ]


def _tokenise(
    rows: Rows, tokenizer: "PreTrainedTokenizerBase", config: DataConfig, task: Task
) -> Split:
    import datasets

    encode = task.encode_training if rows.name == "train" else task.encode

    def make() -> Arrays:
        columns, counts = encode(rows.inputs, rows.labels, tokenizer, config.max_length)
        packed = [pack(name, cells) for name, cells in columns.items()]
        return {"token counts": counts} | {name: a for part in packed for name, a in part.items()}

    vocabulary = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary |= {"truncation": None, "padding": None}  # as the last call left them
    key = {
        "task": f"{task.name} {encode.__name__}",  # the code itself is part of every key
        "tokenizer": f"{tokenizer!r} {json.dumps(vocabulary)}",
        "chat_template": str(tokenizer.chat_template),
        "max_length": str(config.max_length),
        "rows": hash_rows({"inputs": rows.inputs, "labels": rows.labels.tolist()}),
    }
    try:
        arrays = recall("tokens", key, make)
    except RowError as error:
        where = f"data.{rows.name}" if rows.name in SPLITS else rows.origin
        place = rows.places[error.row]
        raise DataError(f"{where}: row {place} (rows count from 0): {error}") from None
    token_counts = arrays.pop("token counts")
    names = [name for name in arrays if not name.endswith(LENGTHS)]
    columns = {name: [cell.tolist() for cell in unpack(name, arrays)] for name in names}
    columns["length"] = [len(ids) for ids in columns["input_ids"]]
    return Split(rows, datasets.Dataset.from_dict(columns), token_counts)
