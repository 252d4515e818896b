"""Conversations: read from rows, formatted by a chat template and tokenized."""

import re
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from lora_tune.config.data import DataConfig
from lora_tune.data.chat_templates import CHAT_TEMPLATES
from lora_tune.data.columns import text_problem
from lora_tune.data.list_cells import parse_list
from lora_tune.errors import (
    DataError,
    ModelError,
    RecipeError,
    RowError,
    did_you_mean,
    first_line,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]  # {role, content} of each message

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"
ROLES = (SYSTEM, USER, ASSISTANT, TOOL)
# Names of ShareGPT, and OpenAI's newer name of the system.
OTHER_ROLES = {"human": USER, "gpt": ASSISTANT, "developer": SYSTEM}
CALLS = ("tool_calls", "function_call")  # keys of messages that call tools
GENERATION_TAG = re.compile(r"{%[-+]?\s*(?:end)?generation\s*[-+]?%}")  # of transformers
# The templates of Llama insert today's date; their own default date makes runs reproducible.
DATE = "26 Jul 2024"


def set_chat_template(
    tokenizer: "PreTrainedTokenizerBase", data: DataConfig, *, checkpoint: str
) -> None:
    """Set a tokenizer's chat template to the recipe's, or to the default one of its own templates.

    Args:
        tokenizer: of the model.
        data: may have a template.
        checkpoint: the base model's name, for the error.

    Raises:
        RecipeError: the recipe's template is not valid.
        ModelError: there is no chat template.
    """
    if isinstance(data.chat_template, str):
        template = CHAT_TEMPLATES.get(data.chat_template, data.chat_template)
        _check_template(template)
        tokenizer.chat_template = template
    try:
        tokenizer.chat_template = tokenizer.get_chat_template()  # of several, the default
    except ValueError:
        raise ModelError(
            f"{checkpoint}: its tokenizer has no chat template; set data.chat_template to "
            f"{', '.join(CHAT_TEMPLATES)} or a Jinja template, or use a base model that was tuned "
            "for chat"
        ) from None


def read_messages(cell: Any) -> Messages:
    """Read a conversation: a list of {role, content}, or {from, value} as in ShareGPT.

    A content may be a list of parts, {type: text, text}. Their texts are joined without a
    separator, as chat templates do that take parts.

    Args:
        cell: the list, or its text as JSON or as Python prints it.

    Raises:
        DataError: the cell is not a conversation.
    """
    found = cell
    if isinstance(cell, str):
        cell = parse_list(cell)
    if not isinstance(cell, list) or not cell:
        raise DataError(
            f"found {found!r:.60}, expected a list of messages, each {{role, content}} or "
            "{from, value}"
        )
    messages = [_read_message(number, message) for number, message in enumerate(cell)]
    messages = [message for message in messages if message["content"] or message["role"] != SYSTEM]
    if not messages or messages[0]["role"] == ASSISTANT:
        raise DataError(f"its first message is from the {ASSISTANT}; expected the {USER}")
    return messages


def user_message(text: str) -> Messages:
    """Start a conversation with a user's message."""
    return [{"role": USER, "content": text.strip()}]


def add_system_message(messages: Messages, content: str) -> Messages:
    """Insert a system message, unless its content is blank or the conversation has one already."""
    content = content.strip()
    if not content or messages[0]["role"] == SYSTEM:
        return messages
    return [{"role": SYSTEM, "content": content}, *messages]


def end_at_last_reply(messages: Messages) -> Messages:
    """Remove the messages after the assistant's last one.

    Raises:
        DataError: no message is from the assistant.
    """
    replies = [number for number, turn in enumerate(messages) if turn["role"] == ASSISTANT]
    if not replies:
        raise DataError(f"no message is from the {ASSISTANT}, so there is nothing to learn")
    return messages[: replies[-1] + 1]


def render_chat_prompt(messages: Messages, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Format a conversation for the assistant to continue; without the assistant's last message.

    Raises:
        DataError: the chat template rejects the conversation.
    """
    has_reply = messages[-1]["role"] == ASSISTANT
    return _render(messages[:-1] if has_reply else messages, tokenizer, add_generation_prompt=True)


def tokenize_chats(
    chats: Sequence[Messages], tokenizer: "PreTrainedTokenizerBase"
) -> list[tuple[list[int], list[bool]]]:
    """Tokenize conversations that end with a message of the assistant.

    Returns:
        For each, its tokens, and whether each token is learned: those of the assistant's messages,
        including what the template ends them with. An end-of-text token is appended where the last
        message has none.

    Raises:
        RowError: the chat template rejects a conversation.
    """
    texts, replies = [], []
    for row, messages in enumerate(chats):
        try:
            text, spans = _find_replies(messages, tokenizer)
        except DataError as error:
            raise RowError(row, str(error)) from None
        texts.append(text)
        replies.append(spans)
    encoded = []
    for text, spans in zip(texts, replies, strict=True):
        ids, offsets = _tokenize(text, [start for start, _ in spans], tokenizer)
        is_learned = [any(start < end <= after for start, after in spans) for _, end in offsets]
        last_reply = [id_ for id_, (_, end) in zip(ids, offsets, strict=True) if end > spans[-1][0]]
        end_id = tokenizer.eos_token_id
        added = [] if end_id is None or end_id in last_reply else [end_id]
        encoded.append((ids + added, is_learned + [True] * len(added)))
    return encoded


def _tokenize(
    text: str, starts: Sequence[int], tokenizer: "PreTrainedTokenizerBase"
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokenize a conversation such that no token crosses the start of an assistant's message.

    A token would cross it where the prompt ends with a space that belongs to the next word's token.
    In generation, the prompt is tokenized without that word.

    Args:
        text: the formatted conversation.
        starts: of the assistant's messages in the text, in characters.
        tokenizer: of the model.

    Returns:
        Tokens, and the (start, end) of each in the text, in characters.
    """

    def tokenize_part(start: int, end: int) -> tuple[list[int], list[tuple[int, int]]]:
        # Without special tokens: the template has inserted those that begin a text.
        encoded = tokenizer(text[start:end], add_special_tokens=False, return_offsets_mapping=True)
        offsets = [(start + first, start + after) for first, after in encoded["offset_mapping"]]
        return encoded["input_ids"], offsets

    ids, offsets = tokenize_part(0, len(text))
    crossed = [n for n in starts if any(first < n < after for first, after in offsets)]
    if not crossed:
        return ids, offsets
    parts = [tokenize_part(*ends) for ends in pairwise([0, *crossed, len(text)])]
    part_ids, part_offsets = zip(*parts, strict=True)
    return list(chain.from_iterable(part_ids)), list(chain.from_iterable(part_offsets))


def _find_replies(
    messages: Messages, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[str, list[tuple[int, int]]]:
    """Format a conversation, and find the assistant's messages in the text.

    A message begins where the generation prompt of the conversation before it ends, which is where
    generation begins. It ends where the conversation up to it ends. Templates may leave out of
    earlier messages what they insert into the last one, such as reasoning; then the message is the
    longest end of it that the whole text has.

    Returns:
        The text, and the (start, end) of each message of the assistant, in characters.
    """
    whole = _render(messages, tokenizer)
    spans: list[tuple[int, int]] = []
    for number, message in enumerate(messages):
        if message["role"] != ASSISTANT:
            continue
        prompt = _render(messages[:number], tokenizer, add_generation_prompt=True)
        through = _render(messages[: number + 1], tokenizer)
        reply, rest = through.removeprefix(prompt), whole.removeprefix(prompt)
        kept = next((reply[at:] for at in range(len(reply)) if rest.startswith(reply[at:])), "")
        if (
            len(reply) == len(through)
            or len(rest) == len(whole)
            or message["content"].split()[-1] not in kept
        ):
            raise DataError(
                f"the chat template formats message {number} (messages count from 0) differently "
                f"after its generation prompt or before other messages, so the {ASSISTANT}'s "
                "tokens cannot be found; set another template in data.chat_template"
            )
        spans.append((len(prompt), len(prompt) + len(kept)))
    return whole, spans


def _render(
    messages: Messages, tokenizer: "PreTrainedTokenizerBase", *, add_generation_prompt: bool = False
) -> str:
    """Format a conversation by the chat template."""
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=DATE,
        )
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        raise DataError(f"the chat template rejects it: {first_line(error)}") from None
    return text


def _check_template(template: str) -> None:
    """Raise a RecipeError where a chat template is not Jinja or formats no message."""
    from jinja2 import Environment, TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables

    jinja = Environment(extensions=["jinja2.ext.loopcontrols"])
    try:
        variables = find_undeclared_variables(jinja.parse(GENERATION_TAG.sub("", template)))
    except TemplateSyntaxError as error:
        raise RecipeError(
            f"data.chat_template: line {error.lineno} is not valid Jinja: {first_line(error)}"
        ) from None
    if "messages" not in variables:
        raise RecipeError(
            "data.chat_template: contains no message; expected a Jinja template that formats the "
            "variable messages"
        )


def _read_message(number: int, message: Any) -> dict[str, str]:
    where = f"message {number} (messages count from 0)"
    if not isinstance(message, dict):
        raise DataError(f"{where}: found {message!r:.60}, expected a mapping")
    role, content = (
        next((message[key] for key in keys if message.get(key) is not None), None)
        for keys in (("role", "from"), ("content", "value"))
    )
    if not isinstance(role, str):
        raise DataError(f"{where}: found no role, expected the key role or from")
    role = OTHER_ROLES.get(role, role)
    if role not in ROLES:
        raise DataError(
            f"{where}: found the role {role!r:.60}, expected {', '.join(ROLES)}"
            f"{did_you_mean(role, ROLES)}"
        )
    where = f"{where}, of the {role}"
    for key in CALLS:
        if message.get(key):
            raise DataError(f"{where}: found {key}, which is not supported; expected text only")
    if isinstance(content, list):
        content = "".join(_part_text(part, f"{where}, part {n}") for n, part in enumerate(content))
    problem = None if role == SYSTEM and content == "" else text_problem(content)
    if problem:
        raise DataError(f"{where}: {problem}")
    return {"role": role, "content": str(content)}


def _part_text(part: Any, where: str) -> str:
    """Return the text of one part of a message."""
    kind, text = (part.get("type"), part.get("text")) if isinstance(part, dict) else (None, None)
    if kind == "text" and isinstance(text, str):
        return text
    found = f"the type {kind!r:.60}" if kind and kind != "text" else f"{part!r:.60}"
    raise DataError(f"{where} (parts count from 0): found {found}, expected {{type: text, text}}")
