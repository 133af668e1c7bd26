"""Text to encoder to scores, and every way to use what came out: evaluate, inspect, forward, load."""

import json
import re
import shutil

import jax
import numpy as np
import pytest

import rootstock
from rootstock.data import vocabularies
from rootstock.engine import checkpoints
from rootstock.finetune import evaluate
from rootstock.models.layers import stack
from rootstock.tools import forward, inspect

TASKS = ("boolq", "copa", "wsc")


def canonical(folder, step=None):
    return stack.unstack(checkpoints.to_host(checkpoints.read_params(folder, step=step)))


def final_scores(tiny, folder):
    return {task: lines[-1] for task in TASKS if (lines := scores(folder, task))}


def scores(folder, task):
    from rootstock.engine import metrics

    return [line["value"] for line in metrics.read(folder) if (line["split"], line["task"], line["name"]) == ("validation", task, "accuracy")]


@pytest.fixture
def copied(finetuned, tmp_path):
    shutil.copytree(finetuned, tmp_path / "finetuned")
    return tmp_path / "finetuned"


def test_pretraining_learns(tiny, trained):
    """Below what a model without context can reach."""
    entropy = tiny.lines(trained, "baseline", "unigram_entropy")[0][1]
    losses = [value for _, value in tiny.lines(trained)]
    assert losses[0] > entropy > 0 and losses[-1] < losses[0] - 1
    assert "report.html" in {path.name for path in trained.iterdir()}


def test_finetuning_takes_the_encoder_over(trained, finetuned):
    """The rate of the first step is 0, so its checkpoint holds what the run began with."""
    first, last, source = canonical(finetuned, 1), canonical(finetuned), canonical(trained)
    taken = {name for name in source if name.startswith("encoder/")}
    assert taken == {name for name in first if name.startswith("encoder/")}
    assert all(np.array_equal(first[name], source[name]) for name in taken)
    assert {name.split("/")[1] for name in first if name.startswith("heads/")} == set(TASKS)
    assert not all(np.array_equal(last[name], source[name]) for name in taken)
    assert checkpoints.steps(finetuned) == list(range(1, 11))


def test_finetuning_from_random_weights(tiny, trained, finetuned, tmp_path):
    """The same architecture, vocabulary and heads; INIT_FROM alone says where weights come from."""
    assert tiny.finetune(tmp_path / "random", trained, "INIT_FROM=None", "TRAIN_STEPS=1", "--gin_bindings=schedules.share.steps = 10") == 0
    first, pretrained, begun = canonical(tmp_path / "random", 1), canonical(trained), canonical(finetuned, 1)
    assert first.keys() == begun.keys()
    kernels = [name for name in pretrained if name.startswith("encoder/") and name.endswith("kernel")]
    assert kernels and not any(np.array_equal(first[name], pretrained[name]) for name in kernels)


def test_unrolled_encoder_takes_scanned_weights(tiny, trained, finetuned, tmp_path):
    unrolled = tmp_path / "unrolled"
    one = ["TRAIN_STEPS=1", "TASKS=('copa',)", "BATCH_SIZE=8", "--gin_bindings=schedules.share.steps = 10"]
    assert tiny.finetune(unrolled, trained, "--gin_bindings=finetuned.encoder_of.scan = False", *one) == 0
    assert not any(stack.stacked(name) for name in checkpoints.shapes(unrolled))
    first, begun = canonical(unrolled, 1), canonical(finetuned, 1)
    assert all(np.array_equal(first[name], begun[name]) for name in first if name.startswith("encoder/"))
    ids = np.arange(10, 26).reshape(1, 2, 8)
    hidden = [model(ids, task="copa").last_hidden_state for model in (rootstock.load(unrolled, 1), rootstock.load(finetuned, 1))]
    np.testing.assert_allclose(hidden[0], hidden[1], atol=1e-6)


def test_finetuning_learns(tiny, finetuned):
    """The answer to the boolq rows stands in the question."""
    lines = {name: value for name in TASKS for _, value in tiny.lines(finetuned, "train", f"loss/{name}")[-1:]}
    assert lines.keys() == set(TASKS)
    assert tiny.lines(finetuned)[-1][1] < tiny.lines(finetuned)[0][1]
    assert all(len(scores(finetuned, task)) == 2 for task in TASKS)


def test_evaluate(tiny, finetuned, copied, capsys):
    """The command's scores are those of the run's last evaluation, on one device and over a mesh."""
    flags = [f"--checkpoint={copied}", f"--data_dir={tiny.folder / 'superglue'}"]
    assert evaluate.main([*flags, "--tasks=boolq,copa,wsc"]) == 0
    shown = capsys.readouterr().out
    written = json.loads((copied / "evaluation.json").read_text())
    expected = final_scores(tiny, finetuned)
    assert {task: result["scores"]["accuracy"] for task, result in written.items()} == expected
    assert {task: result["rows"]["rows"] for task, result in written.items()} == dict.fromkeys(TASKS, 11)
    for task in TASKS:
        assert re.search(rf"{task} +11  accuracy +{100 * expected[task]:.1f} +{100 * written[task]['majority']['accuracy']:.1f}\n", shown + "\n")
    assert evaluate.main([*flags, "--tasks=copa", "--mesh=data=4,tensor=2", "--batch_size=8"]) == 0
    assert json.loads((copied / "evaluation.json").read_text())["copa"] == written["copa"]


def test_majority_is_of_the_same_rows(tiny, finetuned, trained):
    labels = [json.loads(line)["label"] for line in (tiny.folder / "superglue" / "BoolQ" / "val.jsonl").read_text().splitlines()]
    from rootstock.engine import metrics

    found = [line["value"] for line in metrics.read(finetuned) if (line["split"], line["task"]) == ("baseline", "boolq")]
    assert found == [pytest.approx(max(sum(labels), len(labels) - sum(labels)) / len(labels))]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--tasks=cb"], "has no head for cb; it has heads for boolq, copa, wsc"),
        (["--tasks=boolk"], "there is no task 'boolk'; known are boolq, cb, copa, multirc, rte, wic, wsc, or the dotted path"),
        (["--tasks="], "--tasks= names no task"),
        (["--mesh=data=x"], "--mesh=data=x is not a mesh; write AXIS=N with commas between, with the axes replica, data, fsdp, expert, tensor"),
        (["--mesh=dta=8"], "--mesh=dta=8 is not a mesh"),
        (["--mesh=data=3"], "wants 3 devices, but 8 are present"),
        (["--mesh=data=0"], "a mesh axis must be a positive number"),
        (["--data_dir=/gone"], "'/gone' does not exist"),
        (["--length=8"], "the length of copa's rows is 8; expected 16 or more"),
        (["--length=32"], "32 tokens are more than the 16 positions of this BERT"),
        (["--batch_size=0"], "--batch_size=0 must be at least 1"),
    ],
)
def test_mistakes_of_evaluate(tiny, finetuned, capsys, flags, message):
    before = (finetuned / "evaluation.json").exists()
    common = [f"--checkpoint={finetuned}", f"--data_dir={tiny.folder / 'superglue'}", "--tasks=copa"]
    assert evaluate.main([*common, *flags]) == 2
    assert message in capsys.readouterr().err
    assert (finetuned / "evaluation.json").exists() == before


def test_evaluate_of_what_is_no_finetuned_model(tiny, trained, tmp_path, capsys):
    flags = ["--tasks=copa", f"--data_dir={tiny.folder / 'superglue'}"]
    assert evaluate.main([f"--checkpoint={trained}", *flags]) == 2
    assert "has no head for copa; it has heads for no task: fine-tune it first" in capsys.readouterr().err
    assert evaluate.main([f"--checkpoint={tmp_path}", *flags]) == 2
    assert "is not a MODEL_DIR: it holds no config.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags, message",
    [
        (["TASKS=()"], """TASKS is empty; name at least one task, as in --gin.TASKS="('boolq',)\""""),
        (["TASKS=('boolk',)"], "there is no task 'boolk'; known are boolq, cb, "),
        (["TASKS=('rte',)"], "holds none of the files of rte: train.jsonl, val.jsonl, test.jsonl"),
        (["BATCH_SIZE=20"], "the batch size 20 gives 'boolq' 20 x 1 / 3 rows, which is no whole number"),
        (["BATCH_SIZE=12"], "a batch has 4 examples, which the 8 data shards of the mesh "),
        (["LENGTH=32"], "32 tokens are more than the 16 positions of this BERT"),
        (["ENCODER='/gone'"], "/gone is not a MODEL_DIR: it holds no config.json"),
        (["--gin_bindings=recipe.training.shares = {'boolq': 1}"], "recipe.training.shares is {'boolq': 1}; it has no share for copa, wsc"),
        (["--gin_bindings=finetuned.encoder_of.girth = 2"], "girth"),
    ],
)
def test_mistakes_of_finetuning(tiny, trained, tmp_path, capsys, flags, message):
    assert tiny.finetune(tmp_path / "run", trained, *flags) == 2
    said = capsys.readouterr().err
    assert message in said.strip().splitlines()[-1] and not (tmp_path / "run").exists()


def test_init_from_a_folder_without_checkpoint(tiny, trained, tmp_path, capsys):
    """ENCODER tells the architecture, INIT_FROM holds nothing."""
    shutil.copytree(trained, tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoints"))
    assert tiny.finetune(tmp_path / "run", tmp_path / "bare", "TASKS=('copa',)", "BATCH_SIZE=8") == 2
    assert f"{tmp_path}/bare holds no checkpoint" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.fixture
def npz(tmp_path):
    def write(**arrays):
        np.savez(tmp_path / "in.npz", **arrays)
        return [f"--input={tmp_path / 'in.npz'}", f"--output={tmp_path / 'out.npz'}"]

    return write


def test_forward_and_load(trained, npz, tmp_path, capsys):
    """The command's file holds what the function returns: on ids with padding, and on texts."""
    model = rootstock.load(trained)
    ids, mask = model.encode(["the cat sat on the mat", "june"])
    assert mask.sum() == 6 + 2 + 1 + 2
    assert forward.main([f"--checkpoint={trained}", *npz(input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(ids))]) == 0
    assert f"logits (2, {ids.shape[1]}, 160), last_hidden_state (2, {ids.shape[1]}, 16)" in capsys.readouterr().out
    written, output, texts = np.load(tmp_path / "out.npz"), model(ids, mask), model(["the cat sat on the mat", "june"])
    for name in ("logits", "last_hidden_state"):
        assert written[name].dtype == np.float32
        np.testing.assert_array_equal(written[name], getattr(output, name))
        np.testing.assert_array_equal(written[name], getattr(texts, name))
    alone = model(ids[1:, :3], mask[1:, :3]).logits
    np.testing.assert_allclose(alone[0], output.logits[1, :3], atol=1e-5)  # padding changes nothing
    assert not (tmp_path / "out.npz.tmp").exists()


def test_load(trained, finetuned, tmp_path):
    model = rootstock.load(str(trained), step=20)
    assert isinstance(model.tokenizer, vocabularies.Vocabulary) and model.config.model.width == 16
    assert not np.array_equal(model(["the cat"]).logits, rootstock.load(trained)(["the cat"]).logits)
    assert model(["the cat " * 50]).logits.shape == (1, 16, 160)  # cut at the model's positions
    with pytest.raises(rootstock.engine.errors.UserError, match="this model has heads for boolq, copa, wsc: say which"):
        rootstock.load(finetuned)(["the cat"])
    assert rootstock.load(finetuned)(["the cat"], task="boolq").logits.shape == (1, 2)
    with pytest.raises(rootstock.engine.errors.UserError, match="it holds no config.json"):
        rootstock.load(tmp_path)
    shutil.copytree(trained, tmp_path / "mute", ignore=shutil.ignore_patterns("vocabulary"))
    config = json.loads((tmp_path / "mute" / "config.json").read_text()) | {"vocabulary": {}}
    (tmp_path / "mute" / "config.json").write_text(json.dumps(config))
    mute = rootstock.load(tmp_path / "mute")
    assert mute(np.array([[2, 7, 3]])).logits.shape == (1, 3, 160)
    with pytest.raises(rootstock.engine.errors.UserError, match="carries no vocabulary, so it takes input_ids and no texts"):
        mute(["the cat"])


IDS = np.array([[2, 7, 8, 3], [2, 9, 3, 0]])


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"ids": IDS}, "holds ['ids']; expected input_ids and, if wanted, attention_mask and token_type_ids"),
        ({"input_ids": IDS, "mask": IDS}, "holds ['input_ids', 'mask']; expected"),
        ({"input_ids": IDS * 1.0}, "input_ids must hold integers, got float64"),
        ({"input_ids": IDS[0]}, "input_ids must have shape [B, L] with at least one token, got (4,)"),
        ({"input_ids": IDS[:, :0]}, "with at least one token, got (2, 0)"),
        ({"input_ids": IDS[:0]}, "with at least one token, got (0, 4)"),
        ({"input_ids": np.array(3)}, "input_ids must have shape [B, L]"),
        ({"input_ids": IDS + 157}, "input_ids range from 157 to 166, the model knows 0 to 159"),
        ({"input_ids": IDS - 1}, "input_ids range from -1 to 8"),
        ({"input_ids": IDS, "attention_mask": IDS[:1] * 0 + 1}, "attention_mask has shape (1, 4), input_ids (2, 4); they must agree"),
        ({"input_ids": IDS, "token_type_ids": IDS * 0 + 2}, "token_type_ids range from 2 to 2, the model knows 0 to 1"),
        ({"input_ids": np.ones((1, 17), int)}, "rows of 17 tokens are longer than the 16 positions of the model"),
    ],
)
def test_mistakes_of_forward(trained, npz, tmp_path, capsys, arrays, message):
    assert forward.main([f"--checkpoint={trained}", *npz(**arrays)]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out.npz").exists()


def test_files_of_forward(trained, npz, tmp_path, capsys):
    flags = npz(input_ids=IDS)
    for content in (b"not a zip", b"PK\x03\x04 and no more", b""):
        (tmp_path / "in.npz").write_bytes(content)
        assert forward.main([f"--checkpoint={trained}", *flags]) == 2
        assert "is not a readable npz file" in capsys.readouterr().err
    np.save(tmp_path / "one.npy", IDS)
    assert forward.main([f"--checkpoint={trained}", f"--input={tmp_path / 'one.npy'}", flags[1]]) == 2
    assert "is not a readable npz file" in capsys.readouterr().err
    assert forward.main([f"--checkpoint={trained}", "--input=/gone.npz", flags[1]]) == 2
    assert "/gone.npz" in capsys.readouterr().err
    npz(input_ids=IDS)
    assert forward.main([f"--checkpoint={trained}", flags[0], f"--output={tmp_path}/gone/out.npz"]) == 2
    assert f"--output={tmp_path}/gone/out.npz cannot be written" in capsys.readouterr().err
    assert forward.main([f"--checkpoint={trained}", *flags, "--task=boolq"]) == 2
    assert "this checkpoint has no heads for tasks, so it has none for boolq" in capsys.readouterr().err
    assert forward.main([f"--checkpoint={trained}", *flags, "--step=3"]) == 2
    assert "has no checkpoint of step 3; it has [20, 24]" in capsys.readouterr().err


def test_tasks_of_forward(finetuned, npz, capsys, tmp_path):
    flags = [f"--checkpoint={finetuned}", *npz(input_ids=IDS)]
    assert forward.main(flags) == 2
    assert "this model has heads for boolq, copa, wsc: say which" in capsys.readouterr().err
    assert forward.main([*flags, "--task=cb"]) == 2
    assert "this model has no head for cb; it has heads for boolq, copa, wsc" in capsys.readouterr().err
    assert forward.main([*flags, "--task=boolq"]) == 0
    assert np.load(tmp_path / "out.npz")["logits"].shape == (2, 2)


def test_inspect(trained, finetuned, tmp_path, capsys):
    assert inspect.main([f"--checkpoint={trained}"]) == 0
    shown = capsys.readouterr().out
    info = (trained / "model-info.txt").read_text()
    total = re.search(r"([\d,]+) parameters", info)[1]
    assert shown.startswith(f"{trained}: step 24, {total} parameters, rootstock.models.bert.PreTraining\n")
    assert '"layers": 2' in shown
    names = {line.split()[0] for line in info.splitlines()[1:-2]}
    assert names and all(re.search(rf"^{re.escape(name)} ", shown, re.MULTILINE) for name in names)
    assert inspect.main([f"--checkpoint={trained}", "--hash", "--step=20"]) == 0
    assert re.fullmatch(r"[0-9a-f]{64}\n", capsys.readouterr().out)
    assert inspect.main([f"--checkpoint={trained}", "--step=3"]) == 2
    assert "has no checkpoint of step 3; it has [20, 24]" in capsys.readouterr().err
    for flags in ([], ["--hash"]):
        assert inspect.main([f"--checkpoint={tmp_path}", *flags]) == 2
        said = capsys.readouterr()
        assert said.out == "" and re.match("error: .* (is not a MODEL_DIR: it holds no config.json|holds no checkpoint)", said.err)


def test_parameter_hash():
    """By canonical name and value: not by layout, order or stacking; any bit, name, shape or type changes it."""
    values = {f"layers/{i}/kernel": np.arange(6, dtype=np.float32).reshape(2, 3) * i for i in range(4)} | {"bias": np.ones(8, np.float32)}
    hashed = inspect.parameter_hash(values)
    assert inspect.parameter_hash(dict(reversed(values.items()))) == hashed
    stacked = {"layers/0:4:1/kernel": np.stack([values[f"layers/{i}/kernel"] for i in range(4)]), "bias": values["bias"]}
    assert inspect.parameter_hash(stacked) == hashed
    halves = {
        "layers/0:4:2/kernel": stacked["layers/0:4:1/kernel"][::2],
        "layers/1:4:2/kernel": stacked["layers/0:4:1/kernel"][1::2],
        "bias": values["bias"],
    }
    assert inspect.parameter_hash(halves) == hashed
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    put = lambda x: jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    assert inspect.parameter_hash(values | {"bias": put(values["bias"])}) == hashed
    changed = values["bias"].copy()
    changed[3] = np.nextafter(np.float32(1), np.float32(2))
    others = [
        values | {"bias": changed},
        values | {"bias": values["bias"].reshape(2, 4)},
        values | {"bias": values["bias"].view(np.int32)},
        {"bias_": values["bias"]} | {name: value for name, value in values.items() if name != "bias"},
        {name: value for name, value in values.items() if name != "bias"},
    ]
    assert len({hashed, *map(inspect.parameter_hash, others)}) == 6
