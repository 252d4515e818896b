"""Training on a part of the rows: smaller parts are subsets of larger ones."""

from lora_tune.config.data import DataConfig
from lora_tune.data.splits import load_data
from lora_tune.tasks import make_task
from tests.parts import Parts


def test_fewer_training_rows_are_a_subset_and_other_splits_stay(bases, rows):
    tokenizer = Parts(bases["distilbert-base-uncased"]).tokenizer
    few, more, every = (
        load_data(
            DataConfig(source=str(rows), train_rows=count),
            make_task("sequence_classification"),
            tokenizer,
        )
        for count in (10, 20, None)
    )
    assert few.train.rows.row_numbers == more.train.rows.row_numbers[:10]
    assert set(more.train.rows.row_numbers) < set(every.train.rows.row_numbers)
    for split in ("validation", "test"):
        numbers = [data.splits[split].rows.row_numbers for data in (few, more, every)]
        assert numbers[0] == numbers[1] == numbers[2]
