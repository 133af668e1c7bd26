"""Fine-tuning in words and its evaluation, from the recipe to the tables."""

import json
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rootstock.data import vocabularies
from rootstock.engine import metrics
from rootstock.engine.checkpoints import read_params
from rootstock.engine.evaluate import Evaluation
from rootstock.engine.load import load
from rootstock.finetune import evaluate, superglue, tasks
from rootstock.finetune.text_to_text import rows
from rootstock.finetune.text_to_text.scores import Generated
from rootstock.models import decoder, t5

LENGTHS = {"length": 24, "target_length": 5}


def logged(folder, name, split="validation"):
    return [(line["task"], line["step"], line["value"]) for line in metrics.read(folder) if (line["split"], line["name"]) == (split, name)]


def test_learns(finetuned_t5, tiny):
    """The loss falls; random weights say nothing that can be read."""
    losses = dict(tiny.lines(finetuned_t5))
    assert losses[12] < losses[1] / 2
    assert ("boolq", 0, 1.0) in logged(finetuned_t5, "unread")
    assert "boolq" in (finetuned_t5 / "report.html").read_text()


@pytest.mark.slow
def test_starts_from_a_checkpoint(finetune, random_t5, tmp_path):
    """`take_over` gives its weights; INIT_FROM=None others of the same shapes."""
    assert finetune(tmp_path / "a", "TRAIN_STEPS=1", "LEARNING_RATE=1e-9", "TASKS=('boolq',)") == 0
    assert finetune(tmp_path / "b", "TRAIN_STEPS=1", "LEARNING_RATE=1e-9", "TASKS=('boolq',)", "INIT_FROM=None") == 0
    wanted, near, far = (read_params(folder) for folder in (random_t5, tmp_path / "a", tmp_path / "b"))
    np.testing.assert_allclose(near["token/table"], wanted["token/table"], atol=1e-6)
    assert np.abs(np.asarray(far["token/table"]) - np.asarray(wanted["token/table"])).max() > 0.1


def by_hand(directory, tiny, task, split):
    """Texts generated token by token without a cache, one row at a time."""
    blueprint, params = load(directory)
    model, vocabulary = blueprint.merge(params), split.rows.load_vocabulary()
    step = jax.jit(lambda ids, segments, before: model(ids, before, segment_ids=segments).logits)
    said = []
    for row in range(len(split)):
        ids, segments, found = split.arrays["input_ids"][row : row + 1], split.arrays["segment_ids"][row : row + 1], []
        while len(found) < LENGTHS["target_length"] and vocabulary.eos_id not in found:
            before = jnp.asarray([[0, *found] + [0] * (LENGTHS["target_length"] - len(found))], jnp.int32)
            found.append(int(step(ids, segments, before)[0, len(found)].argmax()))
        said.append(vocabulary.decode([index for index in found if index != vocabulary.eos_id]))
    return said


def test_probe_and_evaluate_say_what_one_row_at_a_time_says(finetuned_t5, tiny):
    """Batches, buckets and the order of rows make no difference."""
    name = "boolq"
    task = tasks.find(name)
    split = rows.read(task, str(tiny.folder / "superglue"), str(finetuned_t5 / "vocabulary"), 24, 5, "validation")
    wanted = rows.predictions(task, split, by_hand(finetuned_t5, tiny, task, split))
    blueprint, params = load(finetuned_t5)
    by_probe = Evaluation(blueprint, Generated(task, split), split.longest_first(), 4)(params)
    outcome = evaluate.evaluate(str(finetuned_t5), [name], str(tiny.folder / "superglue"), batch_size=3, **LENGTHS)
    assert by_probe.said == outcome.results[name].predictions.said == wanted.said
    assert outcome.scores[name] == task.score(wanted)
    during = {step: value for of, step, value in logged(finetuned_t5, "accuracy") if of == name}
    assert during[12] == pytest.approx(task.score(wanted)["accuracy"])


def test_the_command(finetuned_t5, tiny, tmp_path, capsys):
    where = [f"--checkpoint={finetuned_t5}", f"--data_dir={tiny.folder / 'superglue'}", "--length=24", "--target_length=5"]
    assert evaluate.main([*where, "--tasks=superglue"]) == 0
    table = capsys.readouterr().out
    assert "missing cb:" in table and "boolq" in table and "wsc" in table
    lines = [json.loads(line) for line in (finetuned_t5 / "predictions" / "boolq.validation.jsonl").read_text().splitlines()]
    assert len(lines) == 11 and set(lines[0]) == {"idx", "label", "prediction", "said"}
    told = json.loads((finetuned_t5 / "evaluation.json").read_text())["tasks"]["boolq"]["rows"]
    assert told["scored"] == told["documents"] == 11 and told["unread"] == sum(line["prediction"] is None for line in lines)
    assert (f"boolq: {told['unread']} of 11 texts are no answer and count as wrong" in table) == (told["unread"] > 0)
    assert "cut_inputs" in (finetuned_t5 / "evaluation.html").read_text()
    assert evaluate.main([*where, "--tasks=boolq", "--split=train", f"--submission={tmp_path / 'a.zip'}"]) == 2
    assert "boolq has no split 'test'" in capsys.readouterr().err


def test_leaderboard_files(finetuned_t5, random_t5, tmp_path, capsys):
    """Test rows without labels, whose targets are <unk>. Answers that nobody can read are told, and can be looked at."""
    folder = tmp_path / "data" / "BoolQ"
    folder.mkdir(parents=True)
    row = {"question": "is it june", "passage": "the cat"}
    for split, more in (("val", {"label": True}), ("test", {})):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps({**row, "idx": i, **more}) + "\n" for i in range(3)))
    archive = tmp_path / "a.zip"
    where = [f"--data_dir={tmp_path / 'data'}", "--length=24", "--target_length=5", "--tasks=boolq", f"--submission={archive}"]
    assert evaluate.main([f"--checkpoint={random_t5}", *where]) == 0
    assert "warning: of the test rows boolq: 3 of 3 texts are no answer and say nothing" in capsys.readouterr().out
    assert len((random_t5 / "predictions" / "boolq.test.jsonl").read_text().splitlines()) == 3
    assert evaluate.main([f"--checkpoint={finetuned_t5}", *where]) == 0
    with zipfile.ZipFile(archive) as opened:
        lines = opened.read("BoolQ.jsonl").decode().splitlines()
    assert [set(json.loads(line)) for line in lines] == [{"idx", "label"}] * 3 and len(set(lines)) == 3


def test_ranking(random_t5, tiny):
    """The likeliest of the classes by the model's own log-likelihood; nothing is unread, though these weights write nothing that can be
    read. WSC has no choices: it is generated."""
    data_dir = str(tiny.folder / "superglue")
    ranked = evaluate.evaluate(str(random_t5), ["boolq", "wsc"], data_dir, rank=True, **LENGTHS).results
    written = evaluate.evaluate(str(random_t5), ["boolq", "wsc"], data_dir, **LENGTHS).results
    assert written["boolq"].predictions.unread.total() == 11 and not ranked["boolq"].predictions.unread
    assert ranked["wsc"].predictions.said == written["wsc"].predictions.said
    blueprint, params = load(random_t5)
    model, vocabulary = blueprint.merge(params), vocabularies.load(random_t5 / "vocabulary")
    step = jax.jit(lambda ids, segments, before: jax.nn.log_softmax(model(ids, before, segment_ids=segments).logits))
    split, found = ranked["boolq"].split, ranked["boolq"].predictions
    totals = np.zeros((11, 2))
    for column, label in enumerate(tasks.find("boolq").labels):
        target = jnp.asarray([[*vocabulary.encode(label), vocabulary.eos_id]] * 11, jnp.int32)
        likelihoods = step(split.arrays["input_ids"], split.arrays["segment_ids"], t5.shift_right(target, 0))
        totals[:, column] = jnp.take_along_axis(likelihoods, target[..., None], axis=-1).sum((1, 2))
    assert found.answers.tolist() == totals.argmax(1).tolist()
    shares = np.exp(totals) / np.exp(totals).sum(1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, shares, atol=1e-5)


def test_ranking_entities(random_t5, tmp_path):
    """ReCoRD: each query has its own; one without any is answered by nothing."""
    (tmp_path / "ReCoRD").mkdir()
    entities = [{"start": 4, "end": 6}, {"start": 12, "end": 18}]
    lines = [
        {"source": "us", "idx": number, "passage": {"text": "the cat and the dog ran", "entities": found},
         "qas": [{"query": "@placeholder sat", "idx": number, "answers": [{"start": 4, "end": 6, "text": "cat"}]}]}
        for number, found in enumerate((entities, entities[:1], []))
    ]  # fmt: skip
    (tmp_path / "ReCoRD" / "val.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = evaluate.evaluate(str(random_t5), ["record"], str(tmp_path), rank=True, **LENGTHS).results["record"].predictions
    assert found.said[0] in ("cat", "the dog") and found.said[1:] == ("cat", "") and found.probabilities is None


def test_mistakes(finetune, finetuned_t5, finetuned, tiny, write, tmp_path, capsys):
    data = f"--data_dir={tiny.folder / 'superglue'}"
    for flags, message in (
        ([f"--checkpoint={finetuned}", "--tasks=boolq", "--rank", data], "--rank is for checkpoints that answer in words"),
        (
            [f"--checkpoint={finetuned}", "--tasks=boolq", "--target_length=4", data],
            "--target_length is for checkpoints that answer in",
        ),
        ([f"--checkpoint={finetuned_t5}", "--tasks=boolq", "--target_length=1", data], "--target_length=1 must be at least 2"),
        ([f"--checkpoint={finetuned_t5}", "--tasks=cb", data], "holds nothing of cb"),
    ):
        assert evaluate.main(flags) == 2
        assert message in capsys.readouterr().err
    decoders = write(tmp_path / "decoder", decoder.Decoder, decoder.Config(vocab_size=160, width=8, layers=1, heads=2, mlp_width=8))
    assert evaluate.main([f"--checkpoint={decoders}", "--tasks=boolq", data]) == 2
    assert "holds a Decoder, which goes on from texts; tasks are answered by encoders with heads" in capsys.readouterr().err
    assert finetune(tmp_path / "a", f"PRETRAINED='{finetuned}'") == 2
    assert "text to text is fine-tuned from an encoder-decoder, models.t5.T5" in capsys.readouterr().err
    assert finetune(tmp_path / "b", "TASKS=()") == 2 and "TASKS is empty" in capsys.readouterr().err
    assert finetune(tmp_path / "c", "TARGET_LENGTH=1") == 2 and "the target_length of boolq_text's rows is 1" in capsys.readouterr().err
    assert not any((tmp_path / name).exists() for name in "abc")


def test_a_vocabulary_larger_than_the_model(finetune, write, tmp_path, capsys):
    small = write(tmp_path / "small", t5.T5, t5.Config(vocab_size=20, width=8, layers=1, heads=1, head_dim=4, mlp_width=8))
    assert finetune(tmp_path / "run", f"PRETRAINED='{small}'") == 2
    said = capsys.readouterr().err
    assert "20" in said and "vocabulary" in said
    assert evaluate.main([f"--checkpoint={small}", "--tasks=boolq"]) == 2
    assert "pieces, but the model knows 20 ids" in capsys.readouterr().err


@pytest.mark.slow
def test_protocol(random_t5, tiny, tmp_path, capsys):
    """Runs, the best model and its predictions of unlabelled rows, as for encoders; the kept model says what was reported of it."""
    recipe, data_dir = tmp_path / "tiny.gin", tmp_path / "data"
    shutil.copytree(tiny.folder / "superglue", data_dir)
    (data_dir / "BoolQ" / "test.jsonl").write_text(json.dumps({"question": "is it june", "passage": "the cat", "idx": 0}) + "\n")
    recipe.write_text(
        "from __gin__ import dynamic_registration\nfrom rootstock.finetune import protocol\n"
        "from rootstock.finetune.protocol import lengths\ninclude 'gin_configs/finetune/t5_protocol.gin'\n"
        "TASKS = ('boolq',)\nLENGTH = 24\nTARGET_LENGTH = 5\nEPOCHS = 6\nBATCH_SIZE = 8\nLEARNING_RATE = 3e-2\n"
        "lengths.shortened.lengths = ()\nprotocol.Protocol.seeds = (0, 1)\n"
        "protocol.Protocol.evaluations = 0\nprotocol.Protocol.predict = ('test',)\n"
    )
    places = {"MODEL_DIR": tmp_path / "runs", "PRETRAINED": random_t5, "DATA_DIR": data_dir}
    assert superglue.main([f"--gin_file={recipe}", *(f"--gin.{name}='{path}'" for name, path in places.items())]) == 0
    told = json.loads((tmp_path / "runs" / "runs" / "boolq" / "seed0" / "result.json").read_text())["tasks"]["boolq"]
    assert told["rows"]["scored"] == 11 and "unread" in told["rows"] and told["labels"] == ["False", "True"]
    best = tmp_path / "runs" / "best" / "boolq"
    kept = json.loads((best / "dev.json").read_text())["tasks"]["boolq"]
    assert evaluate.scores(str(best), ["boolq"], str(data_dir), **LENGTHS)["boolq"] == kept["scores"]
    (line,) = (tmp_path / "runs" / "predictions" / "boolq.test.jsonl").read_text().splitlines()
    assert json.loads(line)["label"] is None and "said" in json.loads(line)
    assert "boolq" in (tmp_path / "runs" / "report.html").read_text()
