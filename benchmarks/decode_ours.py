"""Our side of decode.py: `finetune.decoding.Generator`, as the command `finetune.generate` uses it."""

import jax
import numpy as np
import ours
import t5_step_ours
import worker

from rootstock.engine import mesh
from rootstock.engine.partitioning import Partitioner
from rootstock.engine.state import Blueprint
from rootstock.finetune.decoding import Generator
from rootstock.models import t5
from rootstock.models.decoding.beam import BeamSearch
from rootstock.models.decoding.stepwise import Stepwise

NO_END = -1  # is never generated


def make(length, target_length, batch, beams, **shape) -> worker.Step:
    config = t5_step_ours.config(**shape)
    blueprint = Blueprint.draw(lambda key: t5.T5(config, key), Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1])))
    params = blueprint.init_params(jax.random.key(0))
    search = BeamSearch(beams) if beams > 1 else Stepwise()
    generator = Generator(blueprint, search, length=target_length, end_id=NO_END, pad_id=0, batch_size=batch)
    inputs = np.random.default_rng(0).integers(5, config.vocab_size, (batch, length)).tolist()

    def steps(count: int) -> float:
        for _ in range(count):
            answers = generator(params, inputs)
        assert all(len(answer.ids) == target_length for answer in answers)
        return answers[0].score

    return steps


if __name__ == "__main__":
    worker.serve({"device": ours.device}, make)
