"""Host-side work between steps. A recipe lists hooks in `Run.hooks`; saving, logging and stopping are the loop's own."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from rootstock.engine.errors import UserError
from rootstock.engine.evaluate import Evaluation, ObjectiveLoss
from rootstock.engine.sockets import Data, Probe


@dataclasses.dataclass
class Evaluate:
    """Runs a probe over each named data set every `every` steps from step `first`, and at the end; `probes` has one for each name, or is
    empty for the run's own objective.

    Step 0 is the model before training: the baseline of random weights, or of random heads on a pretrained encoder. So is the step that a
    run continues from, where `every` divides it.
    """

    data: Mapping[str, Data]
    every: int
    first: int = 0
    batch_size: int = 64
    probes: Mapping[str, Probe] = dataclasses.field(default_factory=dict)
    split: str = "validation"

    def __post_init__(self):
        if self.every < 1:
            raise UserError(f"hooks.Evaluate.every is {self.every}; expected at least 1. To evaluate never: train.Run.hooks = []")
        if self.batch_size < 1:
            raise UserError(f"hooks.Evaluate.batch_size is {self.batch_size}; expected at least 1")
        self._evaluations: dict[str, Evaluation] = {}

    def due(self, step: int, last: bool) -> bool:
        return last or (step >= self.first and step % self.every == 0)

    def call(self, running: Any) -> None:
        for name, data in self.data.items():
            if name not in self._evaluations:
                probe = self.probes.get(name) or ObjectiveLoss(running.run.objective)
                self._evaluations[name] = Evaluation(running.blueprint, probe, data, self.batch_size, running.run.view)
            with running.goodput.measure("evaluate"):
                values = self._evaluations[name](running.eval_params(), running.step)
            running.writer.write(running.step, self.split, values, task=name)
            running.say(f"step {running.step}: {name} " + ", ".join(f"{key} {value:.4f}" for key, value in values.items()))


@dataclasses.dataclass
class Profile:
    """Writes a trace of `steps` steps from step `first` to MODEL_DIR/profile, for TensorBoard or Perfetto. A run that was stopped among
    those steps has none.
    """

    first: int = 10
    steps: int = 5

    def __post_init__(self):
        self._tracing = False

    def due(self, step: int, last: bool) -> bool:
        if self._tracing:
            return last or step >= self.first + self.steps
        return step == self.first and not last

    def call(self, running: Any) -> None:
        if not self._tracing:
            jax.profiler.start_trace(str(running.model_dir / "profile"))
            self._tracing = True
        else:
            jax.block_until_ready(running.state.step)
            jax.profiler.stop_trace()
            self._tracing = False
            running.say(f"profile written to {running.model_dir / 'profile'}")
