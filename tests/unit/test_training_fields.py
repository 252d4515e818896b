"""The fields read from source are those of the imported class."""

import dataclasses

from transformers import TrainingArguments

from lora_tune.training_fields import OWN_FIELDS, REFUSED_FIELDS, training_fields


def test_source_and_class_agree():
    real = {field.name for field in dataclasses.fields(TrainingArguments) if field.init}
    assert set(training_fields()) - set(OWN_FIELDS) == real
    assert set(REFUSED_FIELDS) <= real
