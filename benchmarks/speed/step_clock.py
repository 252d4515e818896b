"""A clock of optimizer steps: when each ended, and how many tokens it trained on."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

# When the process started, by the CPU time that it has used since.
PROCESS_START = time.time() - time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID)
WARM_UP_STEPS = 4  # not counted


@dataclass
class StepClock:
    """When each optimizer step ended, and how many tokens it trained on.

    Where `evaluate_after` names steps, it evaluates after each of them, with the clock stopped.
    """

    step_ends: list[float] = field(default_factory=list)  # seconds since the epoch
    tokens: list[int] = field(default_factory=list)  # of each step, without padding
    padded_tokens: list[int] = field(default_factory=list)  # of each step, with padding
    has_gradients: bool = False
    evaluate_after: list[int] = field(default_factory=list)  # numbers of steps, ascending
    evaluations: list[tuple[float, float]] = field(default_factory=list)  # train seconds, accuracy
    _evaluate: Callable[[], float] = float  # returns the accuracy
    _is_evaluating: bool = False
    _next_tokens: int = 0  # of the step that is under way
    _next_padded_tokens: int = 0
    _start: float = 0.0  # seconds since the epoch
    _evaluation_seconds: float = 0.0

    def start(self, evaluate: Callable[[], float]) -> None:
        """Start the clock.

        Args:
            evaluate: returns the accuracy of the model in training on validation rows.
        """
        self._evaluate = evaluate
        self._start = time.time()

    def count_tokens(self, _: Any, __: Any, inputs: dict[str, Any]) -> None:
        """Count the tokens of a forward pass; a forward pre-hook."""
        if self._is_evaluating:
            return
        mask = inputs["attention_mask"]
        self._next_tokens += int(mask.sum())
        self._next_padded_tokens += mask.numel()

    def see_optimizer_step(self, optimizer: Any, *_: Any) -> None:
        """Record the end of a step; a post-hook of every optimizer."""
        if not self.step_ends:
            trained = [p for group in optimizer.param_groups for p in group["params"]]
            self.has_gradients = any(p.grad is not None and p.grad.any() for p in trained)
        self.end_step()

    def end_step(self) -> None:
        """Record the end of a step, and evaluate where that is due."""
        self.step_ends.append(time.time())
        self.tokens.append(self._next_tokens)
        self.padded_tokens.append(self._next_padded_tokens)
        self._next_tokens = self._next_padded_tokens = 0
        if len(self.step_ends) in self.evaluate_after:
            self._is_evaluating = True
            train_seconds = time.time() - self._start - self._evaluation_seconds
            self.evaluations.append((train_seconds, self._evaluate()))
            self._evaluation_seconds += time.time() - self.step_ends[-1]
            self._is_evaluating = False

    def report(self) -> dict[str, Any]:
        """Report what was measured, by the keys of speed.json."""
        ends = self.step_ends
        seconds = [b - a for a, b in pairwise(ends)][WARM_UP_STEPS - 1 :]
        tokens = sum(self.tokens[WARM_UP_STEPS:])
        return {
            "tokens_per_second": tokens / sum(seconds),
            "padding": 1 - tokens / sum(self.padded_tokens[WARM_UP_STEPS:]),
            "step_seconds": seconds,
            "cold_seconds": ends[0] - PROCESS_START,
            "checks": self.evaluations,
            "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
