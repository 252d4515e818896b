"""Frozen layers below all that is trained: run once for each row, not once in every epoch.

What a row's tokens are when they reach the first layer that trains depends on nothing that training
changes and, without dropout, on no chance. So the states of the first epoch are kept, in the
machine's own memory, and stand in for the layers below whenever the row comes again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from lora_tune.architecture import TRUNK_DROPOUTS
from lora_tune.data import Data
from lora_tune.fast.proof import collate_rows, is_near, make_proof_rows, runs_layers_plainly
from lora_tune.model import find_layers

MOST_BYTES = 2 * 1024**3  # of states that are kept
CHANCES = (*TRUNK_DROPOUTS, "layerdrop")  # as configs name them
ROW_INPUTS = ("input_ids", "token_type_ids")  # what makes a row's states, where its mask is 1
OTHER_INPUTS = {"attention_mask", "labels", "num_items_in_batch"}


class Trunk:
    """The frozen layers at the bottom of a model, and the states that they gave each row."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = layers
        self.kept: dict[bytes, Tensor] = {}  # of a row, (tokens, width), on the CPU
        self._rows: list[bytes] = []  # of the batch that the model runs on; none: keep nothing
        self._mask: Any = None  # (rows, tokens), of that batch
        self._states: Tensor | None = None  # (rows, tokens, width), where all its rows are known

    @contextmanager
    def standing_in(self, model: nn.Module) -> Iterator[None]:
        """Let kept states stand in for the layers whenever the model is called."""
        for layer in self.layers:
            layer.forward = self._replace(layer)
        before = model.register_forward_pre_hook(self._begin, with_kwargs=True)
        after = model.register_forward_hook(self._end, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()
            for layer in self.layers:
                del layer.forward

    def _replace(self, layer: nn.Module) -> Callable[..., Any]:
        own, is_top = layer.forward, layer is self.layers[-1]

        def forward(*arguments: Any, **named: Any) -> Any:
            if self._states is not None:
                return self._states
            states = own(*arguments, **named)
            if is_top and self._rows:
                self._keep(states)
            return states

        return forward

    def _begin(self, _: nn.Module, arguments: Any, named: Mapping[str, Any]) -> None:
        is_plain = not arguments and named.keys() <= {*ROW_INPUTS, *OTHER_INPUTS}
        if not is_plain or named.get("attention_mask") is None:
            return
        self._mask = named["attention_mask"].bool()
        self._rows = name_rows(named)
        if all(row in self.kept for row in self._rows):
            known = torch.cat([self.kept[row] for row in self._rows]).to(self._mask.device)
            self._states = known.new_zeros(*self._mask.shape, known.shape[-1])
            self._states[self._mask] = known

    def _end(self, *_: Any) -> None:
        self._rows, self._mask, self._states = [], None, None

    def _keep(self, states: Tensor) -> None:
        for row, own, mask in zip(self._rows, states, self._mask, strict=True):
            self.kept[row] = own[mask].cpu()


@contextmanager
def frozen_trunk(
    model: nn.Module, data: Data, arguments: TrainingArguments, *, collate: Callable[..., Any]
) -> Iterator[int]:
    """Run the frozen layers at the bottom of a model once for each row of train and validation.

    Yields:
        How many layers these are; 0 where it would not pay, or does not prove to change nothing.
    """
    may = (
        (arguments.num_train_epochs > 1 or arguments.max_steps > 0)
        and not arguments.neftune_noise_alpha  # drawn anew for each step
        and runs_layers_plainly(arguments)
    )
    trunk = find_trunk(model, data, collate=collate) if may else None
    if trunk is None:
        yield 0
        return
    with trunk.standing_in(model):
        yield len(trunk.layers)


def find_trunk(model: Any, data: Data, *, collate: Callable[..., Any]) -> Trunk | None:
    """Find the layers below all that is trained, and prove on two rows that states can stand in.

    Half of the shortest row and the longest go through the model together while it trains, and each
    by itself while it does not. Their states are to be the same, so there is neither chance nor
    padding in them; and so are the model's answers, from kept states and from its own.

    Returns:
        None where there are no such layers, or they do not prove so, or there are too many tokens.
    """
    config, layers = model.config, find_layers(model)
    if config.is_encoder_decoder or any(getattr(config, name, 0) for name in CHANCES):
        return None
    if any("forward" in vars(layer) for layer in layers):
        return None  # as what offloads weights leaves them
    rows = make_proof_rows(data)
    both = collate_rows(rows, collate, model)
    if "attention_mask" not in both:
        return None
    mask = both["attention_mask"].bool()
    was_training = model.training
    try:
        made = _run_layers(model.train(), layers, both)
        if [number for number, _ in made] != list(range(len(layers))):
            return None
        if not all(torch.is_tensor(s) and s.shape[:2] == mask.shape for _, s in made):
            return None
        depth = next((number for number, s in made if s.requires_grad), len(layers))
        tokens = sum(sum(split.encoded["length"]) for split in (data.train, data.validation))
        _, states = made[depth - 1]
        if depth == 0 or tokens * states[0, 0].nbytes > MOST_BYTES:
            return None
        model.eval()
        trunk = Trunk(layers[:depth])
        with torch.no_grad(), trunk.standing_in(model):
            alone = [model(**collate_rows([row], collate, model)).logits[0] for row in rows]
            kept = [trunk.kept[name] for name in name_rows(both)]
            together = model(**both).logits
        with torch.no_grad():
            own = model(**both).logits
    finally:
        model.train(was_training)
    for number, real in enumerate(mask):
        answers = [together[number], own[number]]
        if together.ndim == 3:  # of each token
            answers = [answer[real] for answer in answers]
        pairs = [(kept[number], states[number][real].cpu())]
        pairs += [(answer, alone[number]) for answer in answers]
        if not all(is_near(found, expected, states.dtype) for found, expected in pairs):
            return None
    return Trunk(layers[:depth])


def name_rows(inputs: Mapping[str, Any]) -> list[bytes]:
    """Name each row of a batch by what it holds beside padding."""
    mask = inputs["attention_mask"].bool().cpu().numpy()
    columns = [inputs[name].cpu().numpy() for name in ROW_INPUTS if name in inputs]
    return [
        b"".join(column[row][real].tobytes() for column in columns) for row, real in enumerate(mask)
    ]


def _run_layers(
    model: nn.Module, layers: Sequence[nn.Module], inputs: Mapping[str, Any]
) -> list[tuple[int, Any]]:
    """Run a model and leave the random numbers as they were; each layer's number and output."""
    made: list[tuple[int, Any]] = []
    hooks = [
        layer.register_forward_hook(lambda _, __, out, number=number: made.append((number, out)))
        for number, layer in enumerate(layers)
    ]
    try:
        with torch.random.fork_rng(), torch.enable_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return made
