"""The inputs of language models: {prompt, completion} or {messages}, made from a row's columns.

`messages` are a conversation, which a chat template formats later.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lora_tune.config.data import DataConfig
from lora_tune.data.chats import (
    ASSISTANT,
    add_system_message,
    end_at_last_reply,
    read_messages,
    render_chat_prompt,
    user_message,
)
from lora_tune.data.columns import (
    fill_template,
    fill_text,
    named_columns,
    text_columns,
    text_problem,
)
from lora_tune.data.list_cells import parse_list
from lora_tune.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def input_columns(config: DataConfig) -> list[str]:
    """List the columns that an input without its completion is made from."""
    if config.messages is not None:
        return [config.messages, *named_columns(config.system)]
    if config.completion is None:
        return text_columns(config.text)
    return named_columns(config.prompt, config.system) or text_columns(config.text)


def read_training_row(row: Mapping[str, Any], config: DataConfig) -> tuple[Any, str, str]:
    """Make an input from a training row.

    Returns:
        The input; and its whole text and its completion, as people read them.

    Raises:
        DataError: the row is invalid; the message does not say which row it is.
    """
    if config.messages is not None:
        messages = read_messages(row[config.messages])
    else:
        prompt = fill_template(config.prompt, row)
        completion = fill_template(config.completion, row)
        problem = text_problem(completion)
        if problem:
            raise DataError(f"completion: {problem}")
        if not config.is_chat:
            return {"prompt": prompt, "completion": completion}, prompt + completion, completion
        problem = text_problem(prompt)
        if problem:
            raise DataError(f"prompt: {problem}")
        messages = [*user_message(prompt), {"role": ASSISTANT, "content": completion}]
    messages = add_system_message(messages, fill_template(config.system, row))
    messages = end_at_last_reply(messages)
    contents = [message["content"] for message in messages]
    return {"messages": messages}, "\n".join(contents), contents[-1]


def preprocess_prompt(
    row: Mapping[str, Any], config: DataConfig, tokenizer: "PreTrainedTokenizerBase"
) -> Any:
    """Make an input from an unlabeled row, with the templates of the training rows.

    Args:
        row: has the columns of `input_columns`. In place of a conversation, it may have a user's
            message: any text that is not a list of messages.
        config: has the templates.
        tokenizer: has the chat template.

    Raises:
        DataError: the row is invalid; the message does not say which row it is.
    """
    if not any(cell is not None and str(cell).strip() for cell in row.values()):
        raise DataError("found nothing, expected text")
    if config.messages is not None:
        cell = row[config.messages]
        messages = read_messages(_parse_cell(cell) if isinstance(cell, str) else cell)
    else:
        has_prompt = config.completion is not None
        prompt = _fill_prompt(row, config) if has_prompt else fill_text(config.text, row)
        problem = text_problem(prompt)
        if problem:
            raise DataError(problem)
        if not config.is_chat:
            return {"prompt": prompt, "completion": ""}
        messages = user_message(prompt)
    item = {"messages": add_system_message(messages, fill_template(config.system, row))}
    render_prompt(item, tokenizer)  # raises now what would be raised during generation
    return item


def render_prompt(item: Any, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Format an input as the text that its completion continues.

    Args:
        item: {prompt, completion} or {messages}.
        tokenizer: has the chat template.

    Raises:
        DataError: the chat template rejects the conversation.
    """
    if "messages" in item:
        return render_chat_prompt(item["messages"], tokenizer)
    return str(item["prompt"])


def _fill_prompt(row: Mapping[str, Any], config: DataConfig) -> str:
    """Fill the prompt; where no template names a column, append the text column to it."""
    has_columns = named_columns(config.prompt, config.system)
    text = "" if has_columns else fill_text(config.text, row)
    return fill_template(config.prompt, row) + text


def _parse_cell(cell: str) -> Any:
    """Parse the text of a conversation column: a list of messages, else a user's message."""
    items = parse_list(cell)
    return items if items and isinstance(items[0], dict) else user_message(cell)
