"""T5X's checkpoints, written here from the format's description and independent of the reader, of torch's stored models.

A checkpoint of the legacy layout is a folder `checkpoint_STEP` with a msgpack file `checkpoint` of {version: 3, optimizer: {target,
state}}. A leaf is a value, or the specification of a zarr array whose folder is called by its path with dots.
"""

import dataclasses
import gzip
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import serialization, traverse_util
from safetensors.numpy import load_file

import rootstock
from rootstock.engine import checkpoints, load, optimizers, state
from rootstock.models import hf, t5
from rootstock.models.layers.stack import unstack
from rootstock.tools import convert_hf, convert_t5x, t5x_files, t5x_names
from rootstock.tools.converted import drawn

STORED = Path(__file__).parents[1] / "golden" / "hf"
HEADS = 3  # of each of them


def twin(name):
    """T5X's tree of a stored model, as {path: array}, layers one by one."""
    tensors = load_file(STORED / name / "model.safetensors")
    found = {"token_embedder/embedding": tensors["shared.weight"]}
    if "lm_head.weight" in tensors:
        found["decoder/logits_dense/kernel"] = tensors["lm_head.weight"].T
    attentions = {
        "encoder": [("attention", "pre_attention", "SelfAttention")],
        "decoder": [("self_attention", "pre_self_attention", "SelfAttention"),
                    ("encoder_decoder_attention", "pre_cross_attention", "EncDecAttention")],
    }  # fmt: skip
    for side, parts in attentions.items():
        found[f"{side}/{side}_norm/scale"] = tensors[f"{side}.final_layer_norm.weight"]
        for layer in range(sum(f"{side}.block.{i}.layer.0.layer_norm.weight" in tensors for i in range(9))):
            block, ours = f"{side}.block.{layer}.layer", f"{side}/layers_{layer}"
            table = f"{block}.0.SelfAttention.relative_attention_bias.weight"
            if table in tensors:
                where = ours if name == "umt5" else side
                found[f"{where}/relpos_bias/rel_embedding"] = tensors[table].T
            for number, (attention, norm, theirs) in enumerate(parts):
                found[f"{ours}/{norm}_layer_norm/scale"] = tensors[f"{block}.{number}.layer_norm.weight"]
                for short, projection in {"q": "query", "k": "key", "v": "value", "o": "out"}.items():
                    found[f"{ours}/{attention}/{projection}/kernel"] = tensors[f"{block}.{number}.{theirs}.{short}.weight"].T
            last = len(parts)
            found[f"{ours}/pre_mlp_layer_norm/scale"] = tensors[f"{block}.{last}.layer_norm.weight"]
            for part in ("wi", "wi_0", "wi_1", "wo"):
                if f"{block}.{last}.DenseReluDense.{part}.weight" in tensors:
                    found[f"{ours}/mlp/{part}/kernel"] = tensors[f"{block}.{last}.DenseReluDense.{part}.weight"].T
    return {f"target/{path}": np.ascontiguousarray(value) for path, value in found.items()}


def scanned(tree, axis):
    """As scalable_t5 stores it: the layers of a stack as one axis, heads as one of their own."""
    found, layers = {}, {}
    for path, value in tree.items():
        _, side, layer, *rest = path.split("/")
        if not layer.startswith("layers_"):
            found[path] = value
            continue
        if "attention/" in path:
            inner = (HEADS, -1, value.shape[1]) if rest[-2] == "out" else (len(value), HEADS, -1)
            value = value.reshape(inner)
        layers.setdefault(f"target/{side}/{side}/{'/'.join(rest)}", {})[int(layer.removeprefix("layers_"))] = value
    return found | {path: np.stack([values[i] for i in range(len(values))], axis) for path, values in layers.items()}


def write_zarr(folder, value, dtype=None, chunks=None):
    """Version 2 of zarr by hand: .zarray, and a gzip file for every chunk, those at the edges filled up."""
    folder.mkdir(parents=True)
    value = np.asarray(value)
    chunks = chunks or [max(1, -(-size // 2)) for size in value.shape]
    kind = dtype or value.dtype.str
    (folder / ".zarray").write_text(json.dumps({
        "zarr_format": 2, "shape": value.shape, "chunks": chunks, "dtype": kind, "order": "C", "fill_value": None, "filters": None,
        "compressor": {"id": "gzip", "level": 1}, "dimension_separator": ".",
    }))  # fmt: skip
    for index in np.ndindex(*(-(-size // chunk) for size, chunk in zip(value.shape, chunks, strict=True))):
        part = value[tuple(slice(i * c, (i + 1) * c) for i, c in zip(index, chunks, strict=True))]
        whole = np.zeros(chunks, value.dtype)
        whole[tuple(map(slice, part.shape))] = part
        (folder / (".".join(map(str, index)) or "0")).write_bytes(gzip.compress(whole.tobytes()))
    return kind


def write_legacy(folder, tree, driver="gfile", inlined=("scale",), **content):
    folder.mkdir(parents=True)
    leaves = {}
    for path, value in tree.items():
        if path.split("/")[-1] in inlined or not np.ndim(value):
            leaves[path] = value
            continue
        name = path.replace("/", ".")
        bfloat16 = value.dtype == ml_dtypes.bfloat16
        kind = write_zarr(folder / name, value, "bfloat16" if bfloat16 else None)
        leaves[path] = {
            "driver": "zarr", "dtype": value.dtype.name, "kvstore": {"driver": driver, "path": f"{name}/"},
            "metadata": {"shape": list(value.shape), "chunks": [1] * value.ndim, "compressor": {"id": "gzip", "level": 1}, "dtype": kind},
        }  # fmt: skip
    optimizer = traverse_util.unflatten_dict({tuple(path.split("/")): value for path, value in leaves.items()})
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize({"version": 3, "optimizer": optimizer} | content))
    return folder


def slots(tree):
    """What Adafactor keeps, in the names of T5X: nothing that the parameters need."""
    states = {path.replace("target", "state/param_states", 1): np.zeros(1, np.float32) for path in tree}
    return {f"{path}/{slot}": value for path, value in states.items() for slot in ("m", "v", "v_row", "v_col")} | {
        "state/step": np.int32(7)
    }


def converted(source, *flags):
    target = source.parent / f"{source.name}.converted"
    assert convert_t5x.main([f"--from={source}", f"--to={target}", *flags]) == 0
    return target


def refused(source, capsys, *flags):
    assert convert_t5x.main([f"--from={source}", f"--to={source.parent / 'refused'}", *flags]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "Traceback" not in said and not (source.parent / "refused").exists()
    return said


def same_as_stored(name, folder, tmp_path):
    """Every tensor of theirs, bit for bit; and torch's logits."""
    assert convert_hf.main([f"--from={folder}", f"--to_hf={tmp_path / 'hf'}"]) == 0
    stored, written = (load_file(where / "model.safetensors") for where in (STORED / name, tmp_path / "hf"))
    assert {key: value.tobytes() for key, value in written.items()} == {key: value.tobytes() for key, value in stored.items()}
    said = json.loads((tmp_path / "hf" / "config.json").read_text())
    known = json.loads((STORED / name / "config.json").read_text())
    assert {
        key: said[key] for key in ("d_model", "d_kv", "d_ff", "num_heads", "num_decoder_layers", "feed_forward_proj", "vocab_size")
    } == {key: known[key] for key in ("d_model", "d_kv", "d_ff", "num_heads", "num_decoder_layers", "feed_forward_proj", "vocab_size")}


@pytest.mark.parametrize("name", ["t5_tied", "t5_gated"])
def test_legacy_layout(name, tmp_path):
    tree = twin(name)
    folder = converted(write_legacy(tmp_path / "checkpoint_7", tree | slots(tree)))
    same_as_stored(name, folder, tmp_path)


@pytest.mark.parametrize("axis", [0, 1])
def test_scanned_layers_and_tables_of_every_layer(tmp_path, axis):
    """UMT5 is what scalable_t5 trains."""
    tree = scanned(twin("umt5"), axis)
    # The stacks differ in depth, so a wrong axis cannot go unseen.
    folder = converted(write_legacy(tmp_path / "checkpoint_7", tree, driver="gcs"))
    same_as_stored("umt5", folder, tmp_path)


def test_logits_are_those_of_the_twin(tmp_path):
    """T5X says neither the number of buckets' largest distance nor an epsilon: they are 128 and 1e-6 in all its models, and 20 here."""
    folder = converted(write_legacy(tmp_path / "checkpoint_7", twin("t5_gated")))
    blueprint, params = load.load(folder)
    config = dataclasses.replace(blueprint.model.config, max_distance=20)
    model = drawn(t5.T5, config).merge(params)
    with np.load(STORED / "t5_gated" / "cases.npz") as cases:
        labels = cases["case1/labels"]
        decoder_ids = t5.shift_right(jnp.asarray(np.maximum(labels, 0)), 0)
        ids, mask = jnp.asarray(cases["case1/input_ids"]), jnp.asarray(cases["case1/attention_mask"])
        logits = jax.jit(lambda ids, decoder_ids, mask: model(ids, decoder_ids, segment_ids=mask).logits)(ids, decoder_ids, mask)
        np.testing.assert_allclose(logits[labels >= 0], cases["case1/logits"][labels >= 0], rtol=0, atol=2e-5)


@pytest.mark.parametrize("ocdbt", [True, False])
@pytest.mark.parametrize("below", ["state", "."])
def test_orbax_layout(tmp_path, ocdbt, below):
    """As Orbax itself writes a tree, in `state/` or in the folder of the checkpoint."""
    tree = twin("t5_gated")
    nested = traverse_util.unflatten_dict({tuple(path.split("/")): value for path, value in (tree | slots(tree)).items()})
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=ocdbt)) as saving:
        saving.save(tmp_path / "checkpoint_7" / below, args=ocp.args.PyTreeSave(nested))
    same_as_stored("t5_gated", converted(tmp_path / "checkpoint_7"), tmp_path)


def test_orbax_layout_of_2023(tmp_path):
    """`_optimizer` at the root, PLACEHOLDER in the tree for what is an array beside it, values for what is small."""
    folder, leaves = tmp_path / "checkpoint_7", {}
    for path, value in twin("t5_tied").items():
        if path.endswith("scale"):
            leaves[path] = value
        else:
            leaves[path] = f"PLACEHOLDER://_optimizer.{path.replace('/', '.')}"
            write_zarr(folder / f"_optimizer.{path.replace('/', '.')}", value)
    tree = traverse_util.unflatten_dict({("_optimizer", *path.split("/")): value for path, value in leaves.items()})
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree | {"flax_mutables": None, "params_axes": None}))
    same_as_stored("t5_tied", converted(folder), tmp_path)


def test_bfloat16(tmp_path):
    tree = {path: value.astype(ml_dtypes.bfloat16) for path, value in twin("t5_tied").items()}
    folder = converted(write_legacy(tmp_path / "checkpoint_7", tree, inlined=()))
    found = load.load(folder)[1]["token/table"]
    np.testing.assert_array_equal(found, tree["target/token_embedder/embedding"].astype(np.float32))


def test_which_checkpoint(tmp_path, capsys):
    tree = twin("t5_tied")
    for step in (9, 100):
        embedding = {"target/token_embedder/embedding": np.full((43, 20), step, np.float32)}
        write_legacy(tmp_path / "run" / f"checkpoint_{step}", tree | embedding)
    (tmp_path / "run" / "checkpoint_200.tmp-1").mkdir()  # not finished
    table = lambda folder: float(load.load(folder)[1]["token/table"][0, 0])
    assert table(converted(tmp_path / "run")) == 100
    shutil.rmtree(tmp_path / "run.converted")
    assert table(converted(tmp_path / "run", "--step=9")) == 9
    assert "checkpoint_3 is no checkpoint of T5X" in refused(tmp_path / "run", capsys, "--step=3")


def test_model_dir_with_a_vocabulary(tmp_path, capsys):
    source = write_legacy(tmp_path / "checkpoint_7", twin("t5_gated"))
    pieces = tmp_path / "vocab.txt"
    pieces.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(38))]))
    folder = converted(source, f"--vocabulary={pieces}", "--activation=silu", "--dropout=0")
    model = rootstock.load(folder)
    assert model.tokenizer.encode("7") == [12] and model.model.config.dropout == 0 and model.model.config.activation.__name__ == "silu"
    pieces.write_text(pieces.read_text() + "\nmore")
    assert "has 44 pieces, the model's vocab_size is 43" in refused(source, capsys, f"--vocabulary={pieces}")
    assert "--vocabulary=gone" in refused(source, capsys, "--vocabulary=gone")
    assert "--dropout=1.0: expected" in refused(source, capsys, "--dropout=1.0")


FLOATS = dict(dtype=np.float32)
ENCODER = "target/encoder"


def without(part):
    return lambda tree: {path: value for path, value in tree.items() if part not in path}


@pytest.mark.parametrize("change, message", [
    (without("encoder/layers_1/attention/query"), "missing target/encoder/layers_1/attention/query/kernel;"),
    (without("token_embedder"), "the array target/token_embedder/embedding is missing"),
    (without("/encoder/"), "the array target/encoder/relpos_bias/rel_embedding is missing"),
    (lambda t: t | {f"{ENCODER}/layers_0/prompt/kernel": np.ones((2, 2), **FLOATS)}, f"unexpected {ENCODER}/layers_0/prompt/kernel;"),
    (lambda t: t | {f"{ENCODER}/encoder_norm/scale": np.ones(19, **FLOATS)}, "encoder_norm/scale has shape [19] instead of [20]"),
    (lambda t: t | {f"{ENCODER}/encoder_norm/scale": np.full(20, np.nan, **FLOATS)}, "not finite"),
    (lambda t: t | {f"{ENCODER}/layers_0/mlp/wo/kernel": np.zeros((28, 20), np.uint16)}, "holds bfloat16 as uint16"),
    (lambda t: t | {f"{ENCODER}/relpos_bias/rel_embedding": np.ones((4, 8), **FLOATS)}, "of 4 heads, which do not divide the 18 outputs"),
])  # fmt: skip
def test_trees_that_are_refused(tmp_path, capsys, change, message):
    assert message in refused(write_legacy(tmp_path / "checkpoint_7", change(twin("t5_gated"))), capsys)


KERNEL = "target.decoder.layers_2.mlp.wo.kernel"


@pytest.mark.parametrize("damage, message", [
    (lambda folder: shutil.rmtree(folder / KERNEL), f"the array {KERNEL.replace('.', '/')} is missing"),
    (lambda folder: (folder / KERNEL / "1.0").unlink(), f"the array {KERNEL.replace('.', '/')} cannot be read: its part 1.0 is missing"),
    (lambda folder: (folder / KERNEL / "1.0").write_bytes((folder / KERNEL / "1.0").read_bytes()[:50]), "cannot be read"),
    (lambda folder: (folder / KERNEL / ".zarray").write_text("{"), "cannot be read"),
    (lambda folder: (folder / "checkpoint").write_bytes(b""), "checkpoint cannot be read"),
    (lambda folder: (folder / "checkpoint").write_bytes((folder / "checkpoint").read_bytes()[:-9]), "checkpoint cannot be read"),
    (lambda folder: (folder / "checkpoint").write_bytes(serialization.msgpack_serialize([1])), "holds list; expected the tree"),
    (lambda folder: (folder / "checkpoint").unlink(), "missing target/decoder/decoder_norm/scale,"),
])  # fmt: skip
def test_damaged_checkpoints(tmp_path, capsys, damage, message):
    folder = write_legacy(tmp_path / "checkpoint_7", twin("t5_gated"))
    damage(folder)
    assert message in refused(folder, capsys)


def test_other_versions_and_folders(tmp_path, capsys):
    tree = twin("t5_tied")
    assert "has version 1 of T5X's checkpoints; known here are 2 and 3" in refused(write_legacy(tmp_path / "a", tree, version=1), capsys)
    assert "holds no 'optimizer'" in refused(write_legacy(tmp_path / "b", tree, optimizer=3), capsys)
    (tmp_path / "c").mkdir()
    assert "is no checkpoint of T5X: it holds neither the file checkpoint nor arrays" in refused(tmp_path / "c", capsys)
    assert "is no directory" in refused(tmp_path / "d", capsys)


def test_paths_that_lead_elsewhere(tmp_path, capsys):
    folder = write_legacy(tmp_path / "checkpoint_7", twin("t5_tied"))
    tree = serialization.msgpack_restore((folder / "checkpoint").read_bytes())
    tree["optimizer"]["target"]["token_embedder"]["embedding"]["kvstore"]["path"] = "../../secret/"
    (folder / "checkpoint").write_bytes(serialization.msgpack_serialize(tree))
    assert "expected a zarr array beside it" in refused(folder, capsys)


# Adafactor's moments


WIDE = dict(embedding=(200, 128), heads=2, kv=64, mlp=136)  # matrices large enough to be factored (128), one square


def wide():
    """A T5 of one layer and one layer, in T5X's names."""
    rng, width = np.random.default_rng(0), WIDE["embedding"][1]
    joined = WIDE["heads"] * WIDE["kv"]
    shapes = {"token_embedder/embedding": WIDE["embedding"]}
    for side, attentions in {"encoder": ["attention"], "decoder": ["self_attention", "encoder_decoder_attention"]}.items():
        layer = f"{side}/layers_0"
        shapes |= {f"{side}/relpos_bias/rel_embedding": (WIDE["heads"], 32), f"{side}/{side}_norm/scale": (width,)}
        norms = ["pre_attention"] if side == "encoder" else ["pre_self_attention", "pre_cross_attention"]
        shapes |= {f"{layer}/{norm}_layer_norm/scale": (width,) for norm in [*norms, "pre_mlp"]}
        shapes |= {f"{layer}/{name}/{part}/kernel": (width, joined) for name in attentions for part in ("query", "key", "value")}
        shapes |= {f"{layer}/{name}/out/kernel": (joined, width) for name in attentions}
        shapes |= {f"{layer}/mlp/wi/kernel": (width, WIDE["mlp"]), f"{layer}/mlp/wo/kernel": (WIDE["mlp"], width)}
    return {f"target/{path}": rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}


def moments(tree):
    """T5X's Adafactor after some steps: of matrices with two sides of at least 128 the means over the larger and the other side."""
    rng, found = np.random.default_rng(1), {"state/step": np.int32(7)}
    for path, value in tree.items():
        small, large = np.argsort(value.shape)[-2:] if value.ndim == 2 else (None, None)
        factored = value.ndim == 2 and value.shape[small] >= 128
        shapes = {"v_row": np.delete(value.shape, large), "v_col": np.delete(value.shape, small), "v": (1,)} if factored else {
            "v_row": (1,), "v_col": (1,), "v": value.shape}  # fmt: skip
        for kind, shape in (shapes | {"m": (1,)}).items():
            found[f"{path.replace('target', 'state/param_states', 1)}/{kind}"] = rng.uniform(0.5, 2, tuple(shape)).astype(np.float32)
    return found


def expected_update(param, grad, row, column, full, step):
    """Shazeer and Stern 2018, algorithm 4, with T5's settings and learning rate 1: what is subtracted from a parameter."""
    rate = 1 - (step + 1) ** -0.8
    square = grad**2 + 1e-30
    if full.shape == param.shape:
        direction = grad / np.sqrt(rate * full + (1 - rate) * square)
    else:
        small, large = np.argsort(param.shape)[-2:]
        row, column = (rate * old + (1 - rate) * square.mean(axis) for old, axis in ((row, large), (column, small)))
        direction = grad / np.sqrt(np.expand_dims(row / row.mean(), large) * np.expand_dims(column, small))
    direction /= max(1.0, np.sqrt((direction**2).mean()))
    return direction * max(1e-3, np.sqrt((param**2).mean()))


def test_moments_go_on_where_they_were(tmp_path):
    """The next update of every parameter is the one that T5X would have made."""
    tree = wide()
    kept = moments(tree)
    folder = converted(write_legacy(tmp_path / "checkpoint_7", tree | kept), "--slots")
    blueprint, params = load.load(folder)
    optimizer = optimizers.adafactor(optax.constant_schedule(1.0)).tx
    planned = state.abstract(blueprint, [(optimizer, blueprint.trainable)], ())
    saved = checkpoints.Checkpoints(folder)
    restored, _ = saved.restore(planned)
    saved.close()
    assert int(restored.step) == 7
    grads = {path: np.random.default_rng(i).normal(size=value.shape).astype(np.float32) for i, (path, value) in enumerate(tree.items())}
    table = hf.Table(t5x_names.FAMILY, "T5X's T5", blueprint.model.config)
    ours = checkpoints.restack(table.convert(grads), {name: value.shape for name, value in params.items()})
    updates, _ = jax.jit(optimizer.update)(ours, restored.opt_state[0], restored.params)
    found = unstack(updates)
    for path, grad in grads.items():
        states = (kept[f"{path.replace('target', 'state/param_states', 1)}/{kind}"] for kind in ("v_row", "v_col", "v"))
        name, transposed = table.canonical(path)
        wanted = -expected_update(tree[path], grad, *states, 7)
        np.testing.assert_allclose(found[name].T if transposed else found[name], wanted, rtol=2e-5, atol=1e-6, err_msg=path)


def test_moments_that_are_not_taken(tmp_path, capsys):
    tree = wide()
    kept = moments(tree)
    momentum = {"state/param_states/token_embedder/embedding/m": np.zeros((200, 128), np.float32)}
    assert "is a momentum" in refused(write_legacy(tmp_path / "a", tree | kept | momentum), capsys, "--slots")
    assert "holds no optimizer state" in refused(write_legacy(tmp_path / "b", tree), capsys, "--slots")
    without_one = {path: value for path, value in kept.items() if not path.endswith("wi/kernel/v_row")}
    assert "holds no moment v_row of what is here" in refused(write_legacy(tmp_path / "c", tree | without_one), capsys, "--slots")
    whole = {"state/param_states/token_embedder/embedding/v": np.zeros((200, 128), np.float32)}
    assert "factors other matrices than ours" in refused(write_legacy(tmp_path / "d", tree | kept | whole), capsys, "--slots")
    rows = scanned(twin("umt5"), 1)
    states = {"state/step": np.int32(7), "state/param_states/encoder/encoder/mlp/wo/kernel/v": np.zeros((1,), np.float32)}
    assert "has scanned layers" in refused(write_legacy(tmp_path / "e", rows | states), capsys, "--slots")


def test_places_in_the_cloud():
    """No network is needed to see what would be asked of which bucket."""
    store = t5x_files._opened("gs://t5-data/pretrained_models/t5x/t5_1_1_small/checkpoint_1000000")
    spec = store.spec().to_json()
    assert spec["driver"] == "gcs" and spec["bucket"] == "t5-data"
    assert spec["path"] == "pretrained_models/t5x/t5_1_1_small/checkpoint_1000000/"
