"""The fields read from source are those of the imported class."""

import dataclasses

from transformers import TrainingArguments

from lora_tune.training_fields import EARLY_STOPPING_FIELDS, REFUSED_FIELDS, training_fields


def test_source_and_class_agree():
    real = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    assert set(training_fields()) - set(EARLY_STOPPING_FIELDS) == real
    assert set(REFUSED_FIELDS) <= real
