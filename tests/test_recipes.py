"""Every shipped recipe: it resolves to the text that golden/recipes holds, its model can be built, and it reads as a recipe should.

ROOTSTOCK_REGENERATE=1 writes the golden texts anew; read the difference before you commit it.
"""

import math
import os
import pathlib
import re

import gin
import pytest

from rootstock.engine import launch
from rootstock.engine.describe import describe, rebuild
from rootstock.engine.train import Run
from rootstock.models import bert
from rootstock.models.layers import parameters

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = pathlib.Path(__file__).parent / "golden" / "recipes"
INCLUDED = {"run.gin", "pretrain/mlm_text.gin"}  # bases: they miss macros that the recipes which include them define
HARDWARE = {name for name in launch.recipes() if name.startswith("hardware/")}
RUNS = [name for name in launch.recipes() if name not in INCLUDED | HARDWARE]
NEEDS = {
    "pretrain/bert_base.gin": ("DATA_DIR", "VOCABULARY"),
    "pretrain/bert_large.gin": ("DATA_DIR", "VOCABULARY"),
    "finetune/superglue.gin": ("ENCODER",),
    "finetune/superglue_protocol.gin": ("ENCODER", "DATA_DIR"),
    "finetune/glue_sane.gin": ("ENCODER", "DATA_DIR"),
    "finetune/mytask.gin": ("ENCODER", "DATA_DIR"),
}
PARAMETERS = {"pretrain/bert_base.gin": 110_106_428, "pretrain/bert_large.gin": 336_226_108}  # BertForPreTraining of transformers


def resolve(*names):
    """Binds recipes with a MODEL_DIR and whatever else they require; the resolved text."""
    needed = ("MODEL_DIR", *(macro for name in names for macro in NEEDS.get(name, ())))
    launch.bind(names, [f"{macro} = 'THE_{macro}'" for macro in needed])
    return gin.config_str(max_line_length=120)


@pytest.mark.parametrize("name", RUNS)
def test_resolves_to_its_golden_text(name):
    golden = GOLDEN / name
    text = resolve(name)
    if os.environ.get("ROOTSTOCK_REGENERATE"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text(), f"{name} resolves to another text than {golden}; see the head of this file"


def test_no_golden_text_without_its_recipe():
    assert sorted(str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*.gin")) == RUNS


@pytest.mark.parametrize("name", [name for name in RUNS if name.startswith("pretrain/")])
def test_model_builds_and_survives_config_json(name):
    resolve(name)
    config = gin.get_configurable(bert.Config)()
    built = parameters.specs(parameters.abstract(lambda key: bert.PreTraining(config, key)))
    count = sum(math.prod(spec.shape) for spec in built.values())
    assert count == PARAMETERS.get(name, 4_353_442)
    assert describe(rebuild(describe(config))) == describe(config)  # gin wraps functions, so they are compared by name


@pytest.mark.parametrize("hardware", sorted(HARDWARE))
def test_hardware_recipes_go_on_top_of_a_run(hardware):
    resolve("pretrain/bert_large.gin", hardware)
    assert gin.get_configurable(bert.Config)().dtype == "bfloat16"


@pytest.mark.parametrize("name", launch.recipes())
def test_reads_as_a_recipe(name):
    lines = (launch.RECIPES / name).read_text().splitlines()
    assert lines[0].startswith("# ") and "from __gin__ import dynamic_registration" in lines
    if name in RUNS:
        command = rf"#   python -m rootstock\.(pretrain|finetune|finetune\.superglue) --gin_file=(gin_configs/)?{name}"
        assert re.search(command, "\n".join(lines)), "the header has no command"
        for macro in ("MODEL_DIR", "SEED", "TRAIN_STEPS", "BATCH_SIZE", "DATA_DIR"):
            resolve(name)
            assert macro in launch.macros()
    statements = [line for line in lines if line and not line.startswith(("#", "from", "import", "include"))]
    assert len(statements) <= 52 if name == "finetune/superglue.gin" else len(statements) <= 40


@pytest.mark.parametrize("name", RUNS)
def test_binds_nothing_that_run_does_not_have(name):
    text = resolve(name)
    fields = set(Run.__dataclass_fields__)
    assert set(re.findall(r"^train\.Run\.(\w+)", text, re.MULTILINE)) <= fields
