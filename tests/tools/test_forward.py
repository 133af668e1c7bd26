"""A checkpoint on given ids or texts: the command and `rootstock.load`, and what they refuse."""

import json
import shutil

import jax
import numpy as np
import pytest

import rootstock
from rootstock.data import vocabularies
from rootstock.engine import checkpoints, mesh, model_dir, state
from rootstock.engine.errors import UserError
from rootstock.engine.partitioning import Partitioner
from rootstock.models import t5
from rootstock.tools import forward


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
    with pytest.raises(UserError, match=r"'the cat' is no list of texts or of ids; one text is \[text\]"):
        model("the cat")
    with pytest.raises(UserError, match="this model has heads for boolq, copa, wsc: say which"):
        rootstock.load(finetuned)(["the cat"])
    assert rootstock.load(finetuned)(["the cat"], task="boolq").logits.shape == (1, 2)
    with pytest.raises(UserError, match=r"it holds no config\.json"):
        rootstock.load(tmp_path)
    shutil.copytree(trained, tmp_path / "mute", ignore=shutil.ignore_patterns("vocabulary"))
    config = json.loads((tmp_path / "mute" / "config.json").read_text()) | {"vocabulary": {}}
    (tmp_path / "mute" / "config.json").write_text(json.dumps(config))
    mute = rootstock.load(tmp_path / "mute")
    assert mute(np.array([[2, 7, 3]])).logits.shape == (1, 3, 160)
    with pytest.raises(UserError, match="carries no vocabulary, so it takes input_ids and no texts"):
        mute(["the cat"])


IDS = np.array([[2, 7, 8, 3], [2, 9, 3, 0]])


@pytest.fixture(scope="module")
def t5_dir(tmp_path_factory):
    """A MODEL_DIR of a T5 without a vocabulary."""
    folder = tmp_path_factory.mktemp("t5")
    config = t5.Config(vocab_size=30, width=8, layers=1, heads=2, head_dim=4, mlp_width=8, dropout=0.0)
    drawn = state.Blueprint.draw(lambda key: t5.T5(config, key), Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1])))
    saving = checkpoints.Checkpoints(folder)
    saving.save(0, state.init(drawn, drawn.init_params(jax.random.key(0)), [], ()), {"examples": 0, "seed": 0})
    saving.close()
    model_dir.write_config(folder, drawn.model, None)
    return folder


def test_encoder_decoder(t5_dir, npz, tmp_path, capsys):
    """Logits of every place that the decoder reads; rows of another length than the inputs."""
    before, mask = np.array([[0, 5, 6], [0, 7, 0]]), (IDS > 0).astype(int)
    flags = npz(input_ids=IDS, attention_mask=mask, decoder_input_ids=before)
    assert forward.main([f"--checkpoint={t5_dir}", *flags]) == 0
    written, model = np.load(tmp_path / "out.npz"), rootstock.load(t5_dir)
    assert written["logits"].shape == (2, 3, 30) and written["last_hidden_state"].shape == (2, 3, 8)
    np.testing.assert_array_equal(written["logits"], model(IDS, mask, decoder_input_ids=before).logits)
    np.testing.assert_allclose(model(IDS[1:, :3], decoder_input_ids=before[1:]).logits[0], written["logits"][1], atol=1e-5)
    for arrays, message in (
        ({}, "a T5, also takes decoder_input_ids [B, T]"),
        ({"decoder_input_ids": before[:1]}, "decoder_input_ids has shape (1, 3); expected [2, T], a row for each of input_ids (2, 4)"),
        ({"decoder_input_ids": before + 30}, "decoder_input_ids range from 30 to 37, the model knows 0 to 29"),
        ({"decoder_input_ids": before, "token_type_ids": IDS * 0}, "a T5, knows no token_type_ids"),
    ):
        assert forward.main([f"--checkpoint={t5_dir}", *npz(input_ids=IDS, **arrays)]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(UserError, match="carries no vocabulary, so it does not know which token ends a text"):
        model.generate([[2, 7]])


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"input_ids": IDS, "decoder_input_ids": IDS}, "a PreTraining, knows no decoder_input_ids"),
        ({"ids": IDS}, "holds ['ids']; expected input_ids and, if wanted, attention_mask, token_type_ids, decoder_input_ids"),
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
