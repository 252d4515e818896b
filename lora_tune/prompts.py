"""From a row's columns to what a language model is given, and what it is to write.

An input is {prompt, completion}, or {messages}: a conversation that a chat template will write.
"""

import json
from collections.abc import Mapping
from string import Formatter
from typing import TYPE_CHECKING, Any

from lora_tune.chats import (
    ASSISTANT,
    read_messages,
    render_question,
    until_reply,
    user_turn,
    with_system,
)
from lora_tune.errors import DataError
from lora_tune.recipe import DataConfig
from lora_tune.texts import text_fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def named_columns(*templates: str | None) -> list[str]:
    """Name the columns that templates name in braces, each once, in their order; None has none."""
    parts = (part for template in templates for part in Formatter().parse(template or ""))
    return list(dict.fromkeys(name for _, name, _, _ in parts if name is not None))


def fill_template(template: str | None, row: Mapping[str, Any]) -> str:
    """Put a row's columns into a template, and nothing else of theirs; null leaves nothing."""
    parts = Formatter().parse(template or "")
    return "".join(
        text + ("" if name is None else str(row[name] if row[name] is not None else ""))
        for text, name, _, _ in parts
    )


def asked_columns(config: DataConfig) -> list[str]:
    """Name the columns that an input is made of when its answer is not known."""
    if config.messages is not None:
        return [config.messages, *named_columns(config.system)]
    if config.completion is None:
        return [config.text]
    return named_columns(config.prompt, config.system) or [config.text]


def read_pair(row: Mapping[str, Any], config: DataConfig) -> tuple[Any, str, str]:
    """Make an input of a training row: with its text, and its answer, as people read them.

    Raises:
        DataError: what is wrong with the row; not where it stands.
    """
    if config.messages is not None:
        messages = read_messages(row[config.messages])
    else:
        prompt = fill_template(config.prompt, row)
        completion = fill_template(config.completion, row)
        fault = text_fault(completion)
        if fault:
            raise DataError(f"completion: {fault}")
        if not config.is_chat:
            return {"prompt": prompt, "completion": completion}, prompt + completion, completion
        fault = text_fault(prompt)
        if fault:
            raise DataError(f"prompt: {fault}")
        messages = [*user_turn(prompt), {"role": ASSISTANT, "content": completion}]
    messages = until_reply(with_system(messages, fill_template(config.system, row)))
    contents = [message["content"] for message in messages]
    return {"messages": messages}, "\n".join(contents), contents[-1]


def take_prompt(
    row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
) -> Any:
    """Make an input of a user's row, by the templates of the training rows.

    Args:
        row: the columns asked for; in place of a conversation, the user's turn will do.

    Raises:
        DataError: what is wrong with the row; not where it stands.
    """
    if not any(cell is not None and str(cell).strip() for cell in row.values()):
        raise DataError("found nothing, expected text")
    if config.messages is not None:
        cell = row[config.messages]
        messages = read_messages(_read_cell(cell) if isinstance(cell, str) else cell)
    else:
        prompt = row[config.text] if config.completion is None else _fill_prompt(row, config)
        fault = text_fault(prompt)
        if fault:
            raise DataError(fault)
        if not config.is_chat:
            return {"prompt": prompt, "completion": ""}
        messages = user_turn(prompt)
    given = {"messages": with_system(messages, fill_template(config.system, row))}
    write_prompt(given, tokenizer)  # what the chat template does not take is told now
    return given


def write_prompt(given: Any, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Write the text that the answer to an input goes on from.

    Raises:
        DataError: the chat template does not take the conversation.
    """
    if "messages" in given:
        return render_question(given["messages"], tokenizer)
    return str(given["prompt"])


def _fill_prompt(row: Mapping[str, Any], config: DataConfig) -> str:
    """Fill the prompt; where no template names a column, the text goes on from it."""
    own = "" if named_columns(config.prompt, config.system) else str(row[config.text])
    return fill_template(config.prompt, row) + own


def _read_cell(cell: str) -> Any:
    """Read a text in place of a conversation: the user's turn, or a conversation as JSON."""
    if cell.lstrip().startswith("[{"):
        try:
            return json.loads(cell)
        except ValueError:
            pass  # what looks like it
    return user_turn(cell)
