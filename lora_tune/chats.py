"""Conversations as a tokenizer's chat template writes them, and which words are the assistant's."""

from collections.abc import Sequence
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

from lora_tune.errors import DataError, ModelError, RowError, first_line
from lora_tune.recipe import DataConfig
from lora_tune.texts import text_fault

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, str]]  # {role, content} of each turn

SYSTEM, USER, ASSISTANT = "system", "user", "assistant"
SHAREGPT = {"human": USER, "gpt": ASSISTANT}  # its names of roles
# Llama's templates tell the model today's date; by this one, their own default, runs stay alike.
DATE = "26 Jul 2024"


def choose_template(tokenizer: "PreTrainedTokenizerBase", data: DataConfig, *, base: str) -> None:
    """Give a tokenizer the recipe's chat template, or of its own the one for plain chats.

    Raises:
        ModelError: it has none.
    """
    if isinstance(data.chat_template, str):
        tokenizer.chat_template = data.chat_template
    try:
        tokenizer.chat_template = tokenizer.get_chat_template()  # of several, the default
    except ValueError:
        raise ModelError(
            f"{base}: its tokenizer has no chat template; give one in data.chat_template, as Jinja "
            "text, or take a base that was tuned for chats"
        ) from None


def read_messages(cell: Any) -> Messages:
    """Read a conversation: a list of {role, content}, or of ShareGPT's {from, value}.

    Raises:
        DataError: it is none.
    """
    if not isinstance(cell, list) or not cell:
        raise DataError(
            f"found {cell!r:.60}, expected a list of messages, each {{role, content}} or "
            "{from, value}"
        )
    messages = [_read_message(number, message) for number, message in enumerate(cell)]
    messages = [message for message in messages if message["content"] or message["role"] != SYSTEM]
    if not messages or messages[0]["role"] == ASSISTANT:
        raise DataError(f"its messages begin with the {ASSISTANT}'s; expected the {USER}'s first")
    return messages


def user_turn(text: str) -> Messages:
    """Begin a conversation with a user's text."""
    return [{"role": USER, "content": text.strip()}]


def with_system(messages: Messages, system: str) -> Messages:
    """Put a system text before a conversation that has none of its own; blank for none."""
    system = system.strip()
    if not system or messages[0]["role"] == SYSTEM:
        return messages
    return [{"role": SYSTEM, "content": system}, *messages]


def until_reply(messages: Messages) -> Messages:
    """End a conversation with the assistant's last turn.

    Raises:
        DataError: it has none.
    """
    replies = [number for number, turn in enumerate(messages) if turn["role"] == ASSISTANT]
    if not replies:
        raise DataError(f"none of its messages is the {ASSISTANT}'s, so there is nothing to learn")
    return messages[: replies[-1] + 1]


def render_question(messages: Messages, tokenizer: "PreTrainedTokenizerBase") -> str:
    """Write a conversation for the assistant to go on with; a last turn of its own is left out.

    Raises:
        DataError: the chat template does not take it.
    """
    closed = messages[-1]["role"] == ASSISTANT
    return _render(messages[:-1] if closed else messages, tokenizer, ask=True)


def encode_chats(
    chats: Sequence[Messages], tokenizer: "PreTrainedTokenizerBase"
) -> list[tuple[list[int], list[bool]]]:
    """Tokenise conversations that end with the assistant's turn.

    Returns:
        Of each, its tokens, and whether each is of the assistant's turns: its words, and what the
        template ends them with. Where the last turn holds no end-of-text token, one follows.

    Raises:
        RowError: the chat template does not take a conversation.
    """
    texts, replies = [], []
    for row, messages in enumerate(chats):
        try:
            text, spans = _find_replies(messages, tokenizer)
        except DataError as error:
            raise RowError(row, str(error)) from None
        texts.append(text)
        replies.append(spans)
    # The template has written what begins a text, so the tokenizer must not do so again.
    encoded = []
    for text, spans in zip(texts, replies, strict=True):
        ids, offsets = _tokenise(text, [start for start, _ in spans], tokenizer)
        learnt = [any(start < end <= after for start, after in spans) for _, end in offsets]
        last = [number for number, (_, end) in zip(ids, offsets, strict=True) if end > spans[-1][0]]
        end = tokenizer.eos_token_id
        closing = [] if end is None or end in last else [end]
        encoded.append((ids + closing, learnt + [True] * len(closing)))
    return encoded


def _tokenise(
    text: str, starts: Sequence[int], tokenizer: "PreTrainedTokenizerBase"
) -> tuple[list[int], list[tuple[int, int]]]:
    """Tokenise a conversation as the model will see it: what asks for a turn, then the turn.

    Args:
        starts: of the assistant's turns in the text.

    Returns:
        Tokens, and the [start, end) of each in the text. No token reaches over a turn's start, as
        one would that begins with a space which the template asks with.
    """

    def tokenise(begin: int, end: int) -> tuple[list[int], list[tuple[int, int]]]:
        pieces = tokenizer(text[begin:end], add_special_tokens=False, return_offsets_mapping=True)
        places = [(begin + first, begin + after) for first, after in pieces["offset_mapping"]]
        return pieces["input_ids"], places

    ids, places = tokenise(0, len(text))
    crossed = [n for n in starts if any(first < n < after for first, after in places)]
    if not crossed:
        return ids, places
    parts = [tokenise(*ends) for ends in pairwise([0, *crossed, len(text)])]
    tokens, offsets = zip(*parts, strict=True)
    return list(chain.from_iterable(tokens)), list(chain.from_iterable(offsets))


def _find_replies(
    messages: Messages, tokenizer: "PreTrainedTokenizerBase"
) -> tuple[str, list[tuple[int, int]]]:
    """Write a conversation, and find the assistant's turns in it, [start, end) each.

    A turn begins where the conversation before it ends when the assistant is asked to go on: there
    begins what it writes itself. It ends where the conversation with it ends; some templates leave
    out of earlier turns what they put before the last, such as thoughts, so its end alone counts.
    """
    whole = _render(messages, tokenizer)
    spans: list[tuple[int, int]] = []
    for number, message in enumerate(messages):
        if message["role"] != ASSISTANT:
            continue
        before = _render(messages[:number], tokenizer, ask=True)
        upto = _render(messages[: number + 1], tokenizer)
        turn, rest = upto.removeprefix(before), whole.removeprefix(before)
        own = next((turn[at:] for at in range(len(turn)) if rest.startswith(turn[at:])), "")
        if (
            len(turn) == len(upto)
            or len(rest) == len(whole)
            or message["content"].split()[-1] not in own
        ):
            raise DataError(
                f"the chat template writes message {number} (messages count from 0) in another way "
                f"when it asks for it, or when others follow, so the {ASSISTANT}'s words cannot be "
                "told; give another in data.chat_template"
            )
        spans.append((len(before), len(before) + len(own)))
    return whole, spans


def _render(messages: Messages, tokenizer: "PreTrainedTokenizerBase", *, ask: bool = False) -> str:
    """Write a conversation by the chat template.

    Args:
        ask: end it so that the assistant goes on.
    """
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=ask, date_string=DATE
        )
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        raise DataError(f"the chat template does not take it: {first_line(error)}") from None
    return text


def _read_message(number: int, message: Any) -> dict[str, str]:
    if not isinstance(message, dict):
        raise DataError(f"message {number} (from 0): found {message!r:.60}, expected a mapping")
    role, content = (
        next((message[key] for key in keys if message.get(key) is not None), None)
        for keys in (("role", "from"), ("content", "value"))
    )
    if not isinstance(role, str):
        raise DataError(f"message {number} (from 0): found no role, expected role or from")
    role = SHAREGPT.get(role, role)
    fault = None if role == SYSTEM and content == "" else text_fault(content)
    if fault:
        raise DataError(f"message {number} (from 0), the {role}'s: {fault}")
    return {"role": role, "content": str(content)}
