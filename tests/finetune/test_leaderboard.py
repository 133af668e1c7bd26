"""Averages, against those that were published with the scores they are of."""

import numpy as np
import pytest

from rootstock.finetune import leaderboard, tasks

PEERS = [(suite, peer) for suite, told in leaderboard.SUITES.items() for peer in told.peers]


def by_task(scores):
    found = {}
    for (task, metric), value in scores.items():
        found.setdefault(task, {})[metric] = value
    return found


@pytest.mark.parametrize("suite, peer", PEERS, ids=lambda value: getattr(value, "name", value))
def test_published_averages_follow_from_published_scores(suite, peer):
    """Every digit that was published: the same parts, weighed in the same way."""
    (name, published), *rest = peer.averages.items()
    assert not rest
    (average,) = [average for average in leaderboard.SUITES[suite].averages if average.name == name]
    found = average.of(by_task(peer.scores))
    assert found.value == pytest.approx(published, abs=0.05 + 1e-6) and not found.missing


def glue():
    """Numbers of which no two have one mean: 2^i / 1000 for each metric."""
    cells = [(name, metric.__name__) for name in tasks.names("glue") for metric in tasks.find(name).metrics]
    return by_task({cell: 2**number / 1000 for number, cell in enumerate(cells)})


def test_the_conventions_of_glue():
    s = glue()
    eight = [
        s["cola"]["matthews"],
        s["sst2"]["accuracy"],
        (s["mrpc"]["f1"] + s["mrpc"]["accuracy"]) / 2,
        (s["stsb"]["pearson"] + s["stsb"]["spearman"]) / 2,
        (s["qqp"]["f1"] + s["qqp"]["accuracy"]) / 2,
        (s["mnli"]["accuracy"] + s["mnli_mismatched"]["accuracy"]) / 2,
        s["qnli"]["accuracy"],
        s["glue_rte"]["accuracy"],
    ]
    assert leaderboard.GLUE_8.of(s).value == pytest.approx(np.mean(eight))
    assert leaderboard.GLUE.of(s).value == pytest.approx(np.mean([*eight, s["wnli"]["accuracy"]]))
    nine = [s["mnli"]["accuracy"], s["mnli_mismatched"]["accuracy"], s["sst2"]["accuracy"], s["stsb"]["pearson"], s["glue_rte"]["accuracy"],
            s["qnli"]["accuracy"], s["qqp"]["f1"], s["mrpc"]["f1"], s["cola"]["matthews"]]  # fmt: skip
    assert leaderboard.CRAMMING.of(s).value == pytest.approx(np.mean(nine))


def test_a_partial_average_says_so():
    found = leaderboard.SUPERGLUE.of({"boolq": {"accuracy": 0.7}, "cb": {"accuracy": 0.8, "macro_f1": 0.6}, "axb": {"matthews": 0.0}})
    assert (found.value, found.count, found.whole) == (pytest.approx(0.7), 2, 8)
    assert found.told() == "SuperGLUE, mean of 8 tasks: 70.0  partial: 2 of 8, without copa, multirc, record, rte, wic, wsc"
    nothing = leaderboard.SUPERGLUE.of({"axb": {"matthews": 0.0}})
    assert nothing.value is None and nothing.told().startswith("SuperGLUE, mean of 8 tasks: -  partial: 0 of 8")


def test_one_half_of_mnli_is_missing():
    s = glue()
    del s["mnli_mismatched"]
    found = leaderboard.GLUE.of(s)
    assert found.missing == ("mnli_mismatched",) and "partial: 8 of 9, without mnli_mismatched" in found.told()


def test_suites_of_tasks():
    titles = lambda *names: [suite.title for suite in leaderboard.suites_of(list(names))]
    assert titles("rte", "axb") == titles("rte", "reviews") == ["SuperGLUE"] and titles("glue_rte") == ["GLUE"]
    assert titles("rte", "cola") == ["SuperGLUE", "GLUE"] and titles("reviews") == titles() == []
