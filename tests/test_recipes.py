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
from rootstock.engine.errors import UserError
from rootstock.engine.train import Run
from rootstock.models.layers import parameters

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = pathlib.Path(__file__).parent / "golden" / "recipes"
INCLUDED = {
    "run.gin",
    "pretrain/encoder_text.gin",
    "pretrain/mlm_text.gin",
    "pretrain/t5_text.gin",
    "pretrain/decoder_text.gin",
    "models/upcycled_language.gin",
    "models/upcycled_vision.gin",
}  # bases: they miss macros that the recipes which include them define
HARDWARE = {name for name in launch.recipes() if name.startswith("hardware/")}
RUNS = [name for name in launch.recipes() if name not in INCLUDED | HARDWARE]


def block(width, mlp):
    """A post-LN layer: four projections, two more, two norms."""
    return 4 * (width**2 + width) + 2 * width * mlp + mlp + width + 4 * width


def head(width, table, vocabulary):
    """Of masked LM: a dense layer, its norm, the output bias."""
    return width * table + table + 2 * table + vocabulary


def electra(width, table, layers, generator):
    narrow = lambda inner: table * inner + inner if inner != table else 0
    tables = (30522 + 512 + 2 + 2) * table
    found = narrow(width) + layers * block(width, 4 * width) + width**2 + width + width + 1
    return tables + found + narrow(generator) + layers * block(generator, 4 * generator) + head(generator, table, 30522)


def albert(width):
    once = (30000 + 512 + 2 + 2) * 128 + 128 * width + width + block(width, 4 * width) + width**2 + width
    return once + head(width, 128, 30000) + 2 * width + 2


def deberta_v1(width, layers):
    """v1 has no bias on keys and two projections for positions, one of them with a bias; 1,024 relative and 512 absolute positions."""
    layer = block(width, 4 * width) + 2 * width**2
    return (50265 + 2 + 1024) * width + layers * layer + 512 * width + head(width, width, 50265)


def deberta_v3(width, layers, generator):
    """Table and difference; norms, 512 relative positions and layers of both; absolute positions of the generator; both heads."""
    encoder = lambda layers: (2 + 512 + 2) * width + layers * block(width, 4 * width)
    detection = 2 * width + width**2 + width + width + 1
    return 2 * 128100 * width + encoder(layers) + encoder(generator) + 512 * width + head(width, width, 128100) + detection


def modernbert(width, layers, mlp):
    layer = 4 * width**2 + 3 * width * mlp + 2 * width
    return 50368 * width + width + layers * layer - width + width + width**2 + width + 50368


def experts(layers, count, mlp, width):
    return layers * ((count - 1) * mlp + width * count)


DECODER_TINY = 4100 * 256 + 256 + 4 * (4 * 256**2 + 3 * 256 * 688 + 2 * 256)
MOE_LM = 32128 * 768 + 2 * 768 + 12 * block(768, 3072)
PARAMETERS = {  # of the released models; of our own, counted by hand
    "pretrain/bert_base.gin": 110_106_428,
    "pretrain/bert_large.gin": 336_226_108,
    "pretrain/bert_wwm.gin": 336_226_108,
    "pretrain/spanbert.gin": 110_106_428,
    "pretrain/macbert_base.gin": 110_106_428 - (30522 - 21128) * (768 + 1),
    "pretrain/electra_small.gin": electra(256, 128, 12, 64),
    "pretrain/electra_base.gin": electra(768, 768, 12, 256),
    "pretrain/electra_large.gin": electra(1024, 1024, 24, 256),
    "pretrain/albert_base.gin": albert(768),
    "pretrain/albert_large.gin": albert(1024),
    "pretrain/albert_xlarge.gin": albert(2048),
    "pretrain/roberta_base.gin": 124_055_040 + head(768, 768, 50265),
    "pretrain/roberta_large.gin": (50265 + 514 + 1 + 2) * 1024 + 24 * block(1024, 4096) + head(1024, 1024, 50265),
    "pretrain/deberta_base.gin": deberta_v1(768, 12),
    "pretrain/deberta_large.gin": deberta_v1(1024, 24),
    "pretrain/deberta_v3_small.gin": deberta_v3(768, 6, 3),
    "pretrain/deberta_v3_base.gin": deberta_v3(768, 12, 6),
    "pretrain/deberta_v3_large.gin": deberta_v3(1024, 24, 12),
    "pretrain/modernbert_base.gin": modernbert(768, 22, 1152),
    "pretrain/modernbert_large.gin": modernbert(1024, 28, 2624),
    **dict.fromkeys([f"pretrain/{name}.gin" for name in ("demo_bert", "demo_bert_long", "demo_wwm")], 4_353_442),
    # the BERT without pooler and both of its heads; a head of detection; a generator of width 64 with a projection and a head
    "pretrain/demo_electra.gin": (4000 + 128 + 2 + 2) * 256
    + 4 * block(256, 1024)
    + (256**2 + 256 + 257)
    + (256 * 64 + 64 + 4 * block(64, 256) + head(64, 256, 4000)),
    "pretrain/t5_small.gin": 60_506_624,
    **dict.fromkeys([f"pretrain/{name}.gin" for name in ("t5_base", "t5_iid", "t5_multitask")], 222_903_552),
    "pretrain/t5_large.gin": 737_668_096,
    **dict.fromkeys([f"pretrain/{name}.gin" for name in ("t5_1_1_base", "t5_ul2", "t5_lm_adapt")], 247_577_856),
    "pretrain/t5_1_1_large.gin": 783_150_080,
    "pretrain/mt5_base.gin": 582_401_280,
    # vocabulary, both stacks' tables and last norms; 4 encoder layers of 4 + 2 matrices and 2 norms, 4 decoder layers of 8 + 2 and 3
    "pretrain/demo_t5.gin": 4100 * 256
    + 2 * (32 * 4 + 256)
    + 4 * (4 * 256**2 + 2 * 256 * 1024 + 2 * 256 + 8 * 256**2 + 2 * 256 * 1024 + 3 * 256),
    "pretrain/decoder_base.gin": 32128 * 768 + 768 + 12 * (4 * 768**2 + 3 * 768 * 2048 + 2 * 768),
    "pretrain/decoder_tiny.gin": DECODER_TINY,
    # mixtures: (E - 1) more MLPs and a router in every other layer
    "pretrain/upcycle_t5_1_1_base.gin": 247_577_856 + experts(12, 32, 3 * 768 * 2048, 768),
    "pretrain/upcycle_t5_1_1_large.gin": 783_150_080 + experts(24, 32, 3 * 1024 * 2816, 1024),
    "pretrain/upcycle_t5_1_1_xl.gin": 2_849_757_184 + experts(24, 32, 3 * 2048 * 5120, 2048),
    "pretrain/upcycle_bert_base.gin": 110_106_428 + experts(6, 32, 2 * 768 * 3072 + 3072 + 768, 768),
    "pretrain/upcycle_deberta_base.gin": deberta_v1(768, 12) + experts(6, 32, 2 * 768 * 3072 + 3072 + 768, 768),
    "pretrain/switch_base.gin": 222_903_552 + experts(12, 8, 2 * 768 * 3072, 768),
    "pretrain/moe_lm_125m.gin": MOE_LM,
    "pretrain/moe_lm_small.gin": MOE_LM + experts(6, 32, 2 * 768 * 3072 + 3072 + 768, 768),
    "pretrain/moe_lm_15b.gin": MOE_LM + experts(6, 512, 2 * 768 * 3072 + 3072 + 768, 768),
    **dict.fromkeys(
        [f"pretrain/{name}.gin" for name in ("moe_lm_tiny", "upcycle_decoder_tiny")], DECODER_TINY + experts(2, 8, 3 * 256 * 688, 256)
    ),
}


def resolve(*names):
    """Binds recipes with what they say that they need; the resolved text."""
    with pytest.raises(UserError, match=r"the recipe needs .*MODEL_DIR") as told:
        launch.bind(names)
    launch.bind(names, [f"{macro} = 'THE_{macro}'" for macro in re.findall(r"--gin\.(\w+)", str(told.value))])
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
    model = parameters.abstract(lambda key: gin.query_parameter("train.Run.model").scoped_configurable_fn(key=key))
    assert sum(math.prod(spec.shape) for spec in parameters.specs(model).values()) == PARAMETERS[name]
    assert describe(rebuild(describe(model.config))) == describe(model.config)  # gin wraps functions, so they are compared by name


@pytest.mark.parametrize("hardware", sorted(HARDWARE))
def test_hardware_recipes_go_on_top_of_any_pretraining(hardware):
    for name in (name for name in RUNS if name.startswith("pretrain/")):
        resolve(name, hardware)
        model = gin.query_parameter("train.Run.model").selector
        config = gin.query_parameter(f"{model}.config").scoped_configurable_fn()
        config = getattr(config, "discriminator", config)
        assert config.dtype == "bfloat16" and (config.remat is not None) == (hardware == "hardware/fsdp.gin"), name


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
