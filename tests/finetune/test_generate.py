"""The command: from a file of texts to a file of answers."""

import dataclasses
import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rootstock
from rootstock.data import vocabularies
from rootstock.engine import checkpoints, mesh, model_dir, state
from rootstock.engine.errors import UserError
from rootstock.engine.partitioning import Partitioner
from rootstock.finetune import generate
from rootstock.finetune.texts import Texts
from rootstock.models import decoder, t5
from rootstock.models.decoding.beam import BeamSearch
from rootstock.models.decoding.stepwise import Stepwise

T5 = t5.Config(vocab_size=166, width=16, layers=1, heads=2, head_dim=4, mlp_width=24, buckets=8, init_scale=3.0, dropout=0.0)
DECODER = decoder.Config(vocab_size=160, width=16, layers=1, heads=2, mlp_width=24, init_std=0.5)
TEXTS = ["the cat sat", "", "june and the dog ran on the mat then home", "seven"]


def write(folder, model, config, tiny):
    """A MODEL_DIR of random parameters with the vocabulary of the tiny runs."""
    folder.mkdir()
    drawn = state.Blueprint.draw(lambda key: model(config, key), Partitioner(mesh.make(mesh.Shape(), jax.devices()[:1])))
    saving = checkpoints.Checkpoints(folder)
    saving.save(0, state.init(drawn, drawn.init_params(jax.random.key(1)), [], ()), {"examples": 0, "seed": 0})
    saving.close()
    vocabulary = vocabularies.load(tiny.folder / "vocab.txt")
    vocabulary.save(folder / "vocabulary")
    model_dir.write_config(folder, drawn.model, {"checksum": vocabulary.checksum, "folder": "vocabulary"})
    return folder


@pytest.fixture(scope="module")
def t5_dir(tiny, tmp_path_factory):
    return write(tmp_path_factory.mktemp("t5") / "run", t5.T5, T5, tiny)


@pytest.fixture(scope="module")
def decoder_dir(tiny, tmp_path_factory):
    return write(tmp_path_factory.mktemp("decoder") / "run", decoder.Decoder, DECODER, tiny)


@pytest.fixture
def command(tmp_path):
    """(checkpoint, *flags) -> the exit code; reads `in.txt` unless told otherwise."""
    (tmp_path / "in.txt").write_text("\n".join(TEXTS) + "\n")

    def run(checkpoint, *flags):
        given = [f"--checkpoint={checkpoint}", *flags, "--max_length=5", "--batch_size=4"]
        return generate.main(given if any("--input=" in flag for flag in flags) else [f"--input={tmp_path / 'in.txt'}", *given])

    return run


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_an_answer(t5_dir, command, tmp_path, capsys):
    """The answers are the likeliest tokens one after another, by the model without a cache; printed, or written to a file."""
    assert command(t5_dir) == 0
    said = capsys.readouterr()
    rows = lines(said.out)
    assert [row["input"] for row in rows] == TEXTS and "4 rows generated" in said.err and "cut" not in said.err
    assert command(t5_dir, f"--output={tmp_path / 'out.jsonl'}") == 0
    assert lines((tmp_path / "out.jsonl").read_text()) == rows and not (tmp_path / "out.jsonl.tmp").exists()

    from rootstock.engine.load import load

    blueprint, params = load(t5_dir)
    texts, model = Texts(vocabularies.load(t5_dir / "vocabulary"), blueprint.model), blueprint.merge(params)
    inputs, before, score = jnp.asarray(texts.inputs(TEXTS[:1])[0], jnp.int32), [0], 0.0
    after = jax.jit(lambda inputs, before: jax.nn.log_softmax(model(inputs, before).logits[0]))
    while len(before) <= 5 and texts.end_id not in before:
        log_p = after(inputs, jnp.asarray([before + [0] * (6 - len(before))], jnp.int32))[len(before) - 1]
        before.append(int(log_p.argmax()))
        score += float(log_p.max())
    assert rows[0]["output"] == texts.text([token for token in before[1:] if token != texts.end_id])
    np.testing.assert_allclose(rows[0]["score"], score, atol=1e-5)


def test_from_python(t5_dir, decoder_dir, trained, command, capsys):
    """`rootstock.load(...).generate` gives what the command gives; ids for ids."""
    model = rootstock.load(t5_dir)
    for flags, search in (((), Stepwise()), (("--beams=3", "--length_penalty=0.6"), BeamSearch(3, 0.6))):
        assert command(t5_dir, *flags) == 0
        assert model.generate(TEXTS, search, length=5) == [row["output"] for row in lines(capsys.readouterr().out)]
    texts = Texts(model.tokenizer, model.model)
    found = model.generate(texts.inputs(TEXTS)[0], length=5, batch_size=2)
    assert [texts.text(ids) for ids in found] == model.generate(TEXTS, length=5)
    assert model.generate([]) == [] and len(rootstock.load(decoder_dir).generate(["the cat"], length=3)) == 1
    with pytest.warns(UserWarning, match=r"1 inputs were longer than 4 tokens and were cut \(input_length\)"):
        assert model.generate(["the cat sat on the mat"], length=3, input_length=4) == model.generate(["the cat sat"], length=3)
    with pytest.raises(ValueError, match="length is 0; expected at least one token to generate"):
        model.generate(TEXTS, length=0)
    with pytest.raises(UserError, match="the inputs are texts and ids mixed"):
        model.generate([[3], "the"])
    with pytest.raises(UserError, match="the inputs hold the id 166; the model knows 0 to 165"):
        model.generate([[3, 166]])
    with pytest.raises(UserError, match="generates nothing: expected an encoder-decoder or a decoder"):
        rootstock.load(trained).generate(TEXTS)


def test_jsonl_keeps_its_fields(t5_dir, command, tmp_path, capsys):
    path = tmp_path / "rows.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps({"idx": number, "input": text, "output": "old"}) + "\n" for number, text in enumerate(TEXTS))
    assert command(t5_dir, f"--input={path}") == 0
    rows = lines(capsys.readouterr().out)
    assert command(t5_dir) == 0
    plain = lines(capsys.readouterr().out)
    assert rows == [{"idx": number, **row} for number, row in enumerate(plain)]


def test_ways_of_generating(t5_dir, command, capsys, monkeypatch, tmp_path):
    def outputs(*flags):
        assert command(t5_dir, *flags) == 0
        return [row["output"] for row in lines(capsys.readouterr().out)]

    greedy, drawn = outputs(), outputs("--temperature=2")
    assert outputs("--top_k=1") == greedy != drawn
    assert len(outputs("--beams=3", "--length_penalty=0.6")) == len(outputs("--top_p=0.5")) == len(TEXTS)
    assert drawn != outputs("--temperature=2", "--seed=1")
    monkeypatch.setattr(generate, "AT_ONCE", 1)  # two rows are read at once: a row's draws are of its number in the file
    flags = [f"--input={tmp_path / 'in.txt'}", f"--checkpoint={t5_dir}", "--temperature=2", "--max_length=5", "--batch_size=2"]
    assert generate.main(flags) == 0
    assert [row["output"] for row in lines(capsys.readouterr().out)] == drawn


def test_over_a_mesh(t5_dir, command, capsys):
    assert command(t5_dir) == 0
    wanted = lines(capsys.readouterr().out)
    assert command(t5_dir, "--mesh=data=4,tensor=2") == 0
    found = lines(capsys.readouterr().out)
    assert [row["output"] for row in found] == [row["output"] for row in wanted]
    np.testing.assert_allclose([row["score"] for row in found], [row["score"] for row in wanted], atol=1e-5)


def test_a_decoder_goes_on(decoder_dir, command, tmp_path, capsys):
    assert command(decoder_dir) == 2
    assert "input 2 is empty; a decoder goes on from at least one token" in capsys.readouterr().err
    (tmp_path / "prompts.txt").write_text("the cat sat on\njune\n")
    assert command(decoder_dir, f"--input={tmp_path / 'prompts.txt'}", "--input_length=3") == 0
    said = capsys.readouterr()
    assert len(lines(said.out)) == 2 and "1 inputs were longer than 3 tokens and were cut" in said.err


def test_texts(tiny):
    """T5's inputs end with the end token even where they are cut; a decoder's are the last tokens. Ids without a piece are shown."""
    vocabulary = vocabularies.load(tiny.folder / "vocab.txt")
    the, cat, sat, end = (vocabulary.id_of(piece) for piece in ("the", "cat", "sat", "[SEP]"))
    models = [t5.T5(T5, jax.random.key(0)), decoder.Decoder(DECODER, jax.random.key(0))]
    encoder, goes_on = (Texts(vocabulary, model, 3) for model in models)
    assert encoder.inputs(["the cat sat", "the cat", ""]) == ([[the, cat, end], [the, cat, end], [end]], 1)
    assert goes_on.inputs(["the cat sat the", "cat"]) == ([[cat, sat, the], [cat]], 1)
    assert encoder.inputs(["the <extra_id_0>"])[1] == 1  # a vocabulary without sentinels reads them as any text
    bytes_ = vocabularies.load("bytes")
    wide = Texts(bytes_, t5.T5(dataclasses.replace(T5, vocab_size=259), jax.random.key(0)), 32)
    ids = [*bytes_.encode("a "), 258, *bytes_.encode(" b"), 257, *bytes_.encode("<extra_id_900>")]
    assert wide.targets(["a <extra_id_0> b<extra_id_1><extra_id_900>", ""]) == [[*ids, 1], [1]]
    assert encoder.text([the, 163, 165, cat]) == "the <163> <165> cat" and encoder.text([]) == ""
    with pytest.raises(UserError, match=f"has {vocabulary.size} pieces, but the model knows 8 ids"):
        Texts(vocabulary, t5.T5(t5.Config(vocab_size=8, width=4, layers=1, heads=1, mlp_width=4), jax.random.key(0)))


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--beams=0"], "beams is 0; expected 1 or more"),
        (["--beams=2", "--length_penalty=nan"], "length_penalty is nan; expected a number from -10 to 10"),
        (["--beams=2", "--length_penalty=1000"], "length_penalty is 1000.0; expected a number from -10 to 10"),
        (["--output=."], "--output=. is a folder; name a file"),
        (["--beams=2", "--top_p=0.3"], "--beams=2 searches and --top_p draws: give one of them"),
        (["--length_penalty=2"], "--length_penalty=2.0 is of a beam search: add for example --beams=4"),
        (["--temperature=0"], "temperature is 0.0; expected a number above 0"),
        (["--input_length=1"], "inputs of 1 tokens are too short; expected at least 2"),
        (["--input=gone.txt"], "'gone.txt' is not a file"),
        (["--output=/gone/out.jsonl"], "--output=/gone/out.jsonl cannot be written: No such file or directory"),
        (["--mesh=wide=2"], "--mesh=wide=2 is not a mesh; write AXIS=N"),
        (["--step=7"], "has no checkpoint of step 7"),
    ],
)
def test_mistakes(t5_dir, command, capsys, flags, message):
    assert command(t5_dir, *flags) == 2
    said = capsys.readouterr()
    assert message in said.err and not said.out


def test_mistakes_in_files(t5_dir, trained, command, tmp_path, capsys):
    (tmp_path / "in.txt").write_text("")
    assert command(t5_dir) == 2 and "in.txt holds no line" in capsys.readouterr().err
    for content, message in (
        ('{"text": "a"}', "line 1: the key 'input' is missing; there are text"),
        ('{"input": 3}', "'input' is 3, expected"),
    ):
        (tmp_path / "rows.jsonl").write_text(content + "\n")
        assert command(t5_dir, f"--input={tmp_path / 'rows.jsonl'}") == 2
        assert message in capsys.readouterr().err
    (tmp_path / "in.txt").write_bytes(b"caf\xe9\n")
    assert command(t5_dir) == 2 and "is not UTF-8 text: byte 0xe9" in capsys.readouterr().err
    (tmp_path / "in.txt").write_text("a\n")
    assert command(trained) == 2 and "generates nothing: expected an encoder-decoder or a decoder" in capsys.readouterr().err
    assert generate.main([f"--checkpoint={t5_dir}", f"--input={tmp_path / 'in.txt'}", "--max_length=0"]) == 2
    assert generate.main([f"--checkpoint={t5_dir}", f"--input={tmp_path / 'in.txt'}", "--batch_size=0"]) == 2
    assert generate.main([f"--checkpoint={t5_dir}", f"--input={tmp_path / 'in.txt'}", f"--seed={10**20}"]) == 2
    assert "--max_length=0 must be at least 1" in (said := capsys.readouterr().err) and "batch_size is 0" in said and "--seed=1000" in said
