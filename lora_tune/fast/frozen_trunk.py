"""Runs the frozen layers below all trained ones once for each row instead of in every epoch.

The states that reach the first trained layer depend on nothing that training changes and, without
dropout, on no random numbers. So the states of the first epoch are cached in CPU memory and replace
the layers below in later epochs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from lora_tune.data.splits import Data
from lora_tune.fast.equivalence import collate_rows, is_close, make_proof_rows, runs_layers_once
from lora_tune.fast.patches import forward_hook, forward_pre_hook, is_patched, patched_forward
from lora_tune.models.configuration import TRUNK_DROPOUTS
from lora_tune.models.layers import find_layers
from lora_tune.tasks import Task

MAX_BYTES = 2 * 1024**3  # of cached states
RANDOM_FIELDS = (*TRUNK_DROPOUTS, "layerdrop")  # of configurations; random unless they are 0
ROW_INPUTS = ("input_ids", "token_type_ids")  # with the attention mask, they determine the states
OTHER_INPUTS = {"attention_mask", "labels", "num_items_in_batch"}


class Trunk:
    """The frozen layers at the bottom of a model, and the states of the rows they have seen."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = layers
        self.cache: dict[bytes, Tensor] = {}  # by row key, (tokens, width), on the CPU
        # For the batch that the model runs on:
        self._keys: list[bytes] = []  # of its rows; empty: cache nothing
        self._mask: Any = None  # (rows, tokens)
        self._states: Tensor | None = None  # (rows, tokens, width); None unless all are cached

    @contextmanager
    def patched(self, model: nn.Module) -> Iterator[None]:
        """Replace the layers by cached states whenever the model runs on known rows."""
        with ExitStack() as patches:
            patches.enter_context(forward_pre_hook(model, self._look_up))
            patches.enter_context(forward_hook(model, self._finish))
            for layer in self.layers:
                patches.enter_context(patched_forward(layer, self._make_forward(layer)))
            yield

    def _make_forward(self, layer: nn.Module) -> Callable[..., Any]:
        original, is_top = layer.forward, layer is self.layers[-1]

        def forward(*arguments: Any, **named: Any) -> Any:
            if self._states is not None:
                return self._states
            states = original(*arguments, **named)
            if is_top and self._keys:
                self._store(states)
            return states

        return forward

    def _look_up(self, _: nn.Module, arguments: Any, named: Mapping[str, Any]) -> None:
        """Look up the cached states of a batch; a forward pre-hook of the model."""
        has_only_rows = not arguments and named.keys() <= {*ROW_INPUTS, *OTHER_INPUTS}
        if not has_only_rows or named.get("attention_mask") is None:
            return
        self._mask = named["attention_mask"].bool()
        self._keys = row_keys(named)
        if all(key in self.cache for key in self._keys):
            cached = torch.cat([self.cache[key] for key in self._keys]).to(self._mask.device)
            self._states = cached.new_zeros(*self._mask.shape, cached.shape[-1])
            self._states[self._mask] = cached

    def _finish(self, *_: Any) -> None:
        """Forget the batch; a forward hook of the model."""
        self._keys, self._mask, self._states = [], None, None

    def _store(self, states: Tensor) -> None:
        for key, row, mask in zip(self._keys, states, self._mask, strict=True):
            self.cache[key] = row[mask].cpu()


@contextmanager
def frozen_trunk(
    model: nn.Module,
    data: Data,
    *,
    arguments: TrainingArguments,
    task: Task,
    collate: Callable[..., Any],
) -> Iterator[int]:
    """Run the frozen bottom layers once for each row of the training and validation splits.

    Yields:
        The number of these layers; 0 if caching saves nothing or could change results.
    """
    may_cache = (
        (arguments.num_train_epochs > 1 or arguments.max_steps > 0)
        and not arguments.neftune_noise_alpha  # random noise on the embeddings
        and runs_layers_once(arguments)
    )
    trunk = find_trunk(model, data, task=task, collate=collate) if may_cache else None
    if trunk is None:
        yield 0
        return
    with trunk.patched(model):
        yield len(trunk.layers)


def find_trunk(model: Any, data: Data, *, task: Task, collate: Callable[..., Any]) -> Trunk | None:
    """Find the frozen bottom layers, and check on two rows that cached states can replace them.

    The first half of the shortest row and the longest row run together in training mode, and each
    alone in evaluation mode. The states must agree, so that they depend neither on random numbers
    nor on padding; so must the outputs, from cached and from computed states.

    Returns:
        The layers; None if there are none, a check fails, or the states would take more than
        MAX_BYTES.
    """
    config, layers = model.config, find_layers(model)
    if config.is_encoder_decoder or any(getattr(config, name, 0) for name in RANDOM_FIELDS):
        return None
    if any(map(is_patched, layers)):
        return None  # accelerate patches layers whose weights it offloads
    rows = make_proof_rows(data)
    both = collate_rows(rows, collate, model=model)
    if "attention_mask" not in both:
        return None
    mask = both["attention_mask"].bool()
    was_training = model.training
    try:
        outputs = _run_layers(model.train(), layers, inputs=both)
        if [number for number, _ in outputs] != list(range(len(layers))):
            return None
        if not all(torch.is_tensor(s) and s.shape[:2] == mask.shape for _, s in outputs):
            return None
        depth = next((number for number, s in outputs if s.requires_grad), len(layers))
        tokens = sum(sum(split.encoded["length"][:]) for split in (data.train, data.validation))
        _, states = outputs[depth - 1]
        if depth == 0 or tokens * states[0, 0].nbytes > MAX_BYTES:
            return None
        model.eval()
        trunk = Trunk(layers[:depth])
        with torch.no_grad(), trunk.patched(model):
            batches = [collate_rows([row], collate, model=model) for row in rows]
            alone = [task.logits(model(**batch))[0] for batch in batches]
            cached = [trunk.cache[key] for key in row_keys(both)]
            from_cache = task.logits(model(**both))
        with torch.no_grad():
            computed = task.logits(model(**both))
    finally:
        model.train(was_training)
    for number, is_token in enumerate(mask):
        results = [from_cache[number], computed[number]]
        if from_cache.ndim == 3:  # (rows, tokens, classes)
            results = [result[is_token] for result in results]
        pairs = [(cached[number], states[number][is_token].cpu())]
        pairs += [(result, alone[number]) for result in results]
        if not all(is_close(found, expected, dtype=states.dtype) for found, expected in pairs):
            return None
    return Trunk(layers[:depth])


def row_keys(inputs: Mapping[str, Any]) -> list[bytes]:
    """Make a key for each row of a batch from its inputs without padding."""
    mask = inputs["attention_mask"].bool().cpu().numpy()
    columns = [inputs[name].cpu().numpy() for name in ROW_INPUTS if name in inputs]
    return [
        b"".join(column[row][is_token].tobytes() for column in columns)
        for row, is_token in enumerate(mask)
    ]


def _run_layers(
    model: nn.Module, layers: Sequence[nn.Module], *, inputs: Mapping[str, Any]
) -> list[tuple[int, Any]]:
    """Run a model without advancing the random number generators.

    Returns:
        The number and the output of each layer, in the order in which they ran.
    """
    outputs: list[tuple[int, Any]] = []
    with ExitStack() as hooks:
        for number, layer in enumerate(layers):

            def record(_: Any, __: Any, output: Any, number: int = number) -> None:
                outputs.append((number, output))

            hooks.enter_context(forward_hook(layer, record))
        with torch.random.fork_rng(), torch.enable_grad():
            model(**inputs)
    return outputs
