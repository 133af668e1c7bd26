"""seqio.Evaluator drives a checkpoint of ours on our tasks, and finds what our own evaluation finds."""

import pytest

from rootstock.engine.load import load
from rootstock.finetune import evaluate, tasks
from rootstock.finetune.decoding import Generator, Scorer
from rootstock.finetune.text_to_text import seqio_evaluation


@pytest.fixture(scope="module")
def seqio():
    """Imported as a library would, with the warnings that it and TensorFlow have."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import seqio
    return seqio


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_evaluator(seqio, finetuned_t5, tiny):
    data_dir, vocabulary = str(tiny.folder / "superglue"), str(finetuned_t5 / "vocabulary")
    names = [seqio_evaluation.register(tasks.find(name), data_dir, vocabulary, 24, 5) for name in ("boolq", "wsc")]
    seqio.MixtureRegistry.add("both_scored", names, default_rate=1)
    blueprint, params = load(finetuned_t5)
    texts = seqio.get_mixture_or_task(names[0]).output_features["targets"].vocabulary
    generator = Generator(blueprint, length=5, end_id=texts.eos_id, pad_id=0)
    evaluator = seqio.Evaluator("both_scored", seqio.EncDecFeatureConverter(pack=False))
    computed, _ = evaluator.evaluate(compute_metrics=True, predict_fn=seqio_evaluation.predict_fn(generator, params))
    ours = evaluate.evaluate(str(finetuned_t5), ["boolq", "wsc"], data_dir, length=24, target_length=5)
    found = computed.result()
    assert {name: found[f"{name}_scored"] for name in ours.scores} == ours.scores


@pytest.mark.filterwarnings("ignore")
def test_scores_of_a_users_task(seqio, finetuned_t5):
    """Log-likelihoods of targets, in the order of the examples."""
    import tensorflow as tf

    pairs = [([7, 8, 3], [9, 3]), ([7, 3], [9, 11, 12, 3]), ([8, 9, 10, 11, 3], [3])]
    ids = tf.TensorSpec([None], tf.int32)

    def dataset(split, shuffle_files, seed=None):
        return tf.data.Dataset.from_generator(
            lambda: ({"inputs": a, "targets": b} for a, b in pairs), output_signature={"inputs": ids, "targets": ids}
        )

    def likelihoods(targets, scores):
        return {"scores": seqio.metrics.Text(" ".join(f"{score:.6f}" for score in scores))}

    feature = seqio.Feature(seqio.PassThroughVocabulary(160), add_eos=False)
    seqio.TaskRegistry.add(
        "own_scored",
        source=seqio.FunctionDataSource(dataset, splits=["validation"]),
        output_features={"inputs": feature, "targets": feature},
        metric_fns=[likelihoods],
    )
    blueprint, params = load(finetuned_t5)
    scorer = Scorer(blueprint, pad_id=0)
    evaluator = seqio.Evaluator("own_scored", seqio.EncDecFeatureConverter(pack=False))
    computed, _ = evaluator.evaluate(compute_metrics=True, score_fn=seqio_evaluation.score_fn(scorer, params))
    wanted = [scorer(params, [inputs], [[targets]])[0].total[0] for inputs, targets in pairs]
    found = computed.result()["own_scored"]["scores"].textdata.split()
    assert [float(score) for score in found] == pytest.approx(wanted, abs=1e-5)
