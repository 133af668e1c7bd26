"""How fast data comes: reading a cache, reading live through seqio, tokenising and packing, building a cache.

    python benchmarks/data.py --text='corpus/*.txt.xz' [--vocabulary=data/demo/vocab.txt] [--length=128] [--rounds=3]

Every figure is for one core: work divided by the processor time of the process that does it, its threads included, medians of rounds. The
wall clock beside it says the same on an idle machine. Reading draws batches of 256 rows in shuffled order out of a cache of the text, which
the system holds in memory. Live seqio tokenises and packs the same documents in tf.data, with the same vocabulary and seqio's own packing,
and gives batches of numpy arrays. Text is counted in megabytes of UTF-8.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

BATCH = 256


def per_second(work: Callable[[], float], rounds: int) -> dict[str, float]:
    """What `work` returns, divided by the seconds it took: processor and wall clock, medians of rounds after one that warms up."""
    work()
    cpu, wall = [], []
    for _ in range(rounds):
        begin, began = time.process_time(), time.perf_counter()
        done = work()
        cpu.append(done / (time.process_time() - begin))
        wall.append(done / (time.perf_counter() - began))
    return {"a core": statistics.median(cpu), "wall clock": statistics.median(wall)}


def reading(directory: Path, batches: int = 200) -> Callable[[], float]:
    """Tokens: slots of `input_ids`."""
    from rootstock.data import cache, streams

    stream = streams.Shuffled(cache.Source(directory, "train"), seed=0)
    places = iter(range(0, 10**9, BATCH))

    def work() -> float:
        return float(sum(stream.batch(next(places), BATCH)["input_ids"].size for _ in range(batches)))

    return work


def tokenising(texts: list[str], vocabulary) -> Callable[[], float]:
    size = sum(len(text.encode()) for text in texts) / 1e6

    def work() -> float:
        for start in range(0, len(texts), 64):
            vocabulary.encode_batch(texts[start : start + 64])
        return size

    return work


def packing(texts: list[str], vocabulary, length: int) -> Callable[[], float]:
    """Of documents that are ids already."""
    from rootstock.data import packing

    size = sum(len(text.encode()) for text in texts) / 1e6
    documents = vocabulary.encode_batch(texts)

    def work() -> float:
        for _ in packing.pack((piece for ids in documents for piece in packing.cut(ids, length)), length, vocabulary):
            pass
        return size

    return work


def caching(task, size: float) -> Callable[[], float]:
    """All of it by one process: reading text, tokenising, packing, compressing, writing."""
    from rootstock.data import build

    def work() -> float:
        with tempfile.TemporaryDirectory() as folder:
            build.build(task, f"{folder}/cache", workers=1, progress=False)
        return size

    return work


def live(texts: list[str], vocabulary, length: int, batches: int = 40) -> Callable[[], float]:
    """Tokens of batches of packed rows, drawn from a seqio task over the texts."""
    import seqio
    import tensorflow as tf

    from rootstock.data.vocabularies import seqio_vocabulary

    def dataset(split, shuffle_files=False, seed=None):
        return tf.data.Dataset.from_tensor_slices({"targets": texts})

    task = seqio.Task(
        "texts",
        source=seqio.FunctionDataSource(dataset, splits=["train"]),
        output_features={"targets": seqio.Feature(seqio_vocabulary(vocabulary), add_eos=True)},
        preprocessors=[seqio.preprocessors.tokenize, seqio.preprocessors.append_eos_after_trim],
    )
    rows = task.get_dataset({"targets": length}, split="train", shuffle=True, seed=0, num_epochs=None)
    packed = seqio.LMFeatureConverter(pack=True)(rows, {"targets": length}).batch(BATCH).as_numpy_iterator()

    def work() -> float:
        return float(sum(next(packed)["decoder_target_tokens"].size for _ in range(batches)))

    return work


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--text", required=True)
    parser.add_argument("--vocabulary", default="data/demo/vocab.txt")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    flags = parser.parse_args(arguments)

    from rootstock.data import build, cache, vocabularies
    from rootstock.data.text import TextTask, documents_of

    task = TextTask(flags.text, flags.vocabulary, flags.length, validation_fraction=0)
    vocabulary = vocabularies.load(flags.vocabulary)
    texts = list(documents_of(task, "train"))
    size = sum(len(text.encode()) for text in texts) / 1e6
    results: dict[str, object] = {"text, MB": size}
    with tempfile.TemporaryDirectory() as folder:
        build.build(task, f"{folder}/cache", workers=1, progress=False)
        numbers = cache.Source(f"{folder}/cache", "train").statistics
        results |= {"rows": numbers["rows"], "filled": numbers["filled"] / numbers["slots"]}
        results["reading the cache, tokens/s"] = per_second(reading(Path(folder) / "cache"), flags.rounds)
    results["live seqio, tokens/s"] = per_second(live(texts, vocabulary, flags.length), flags.rounds)
    results["tokenising, MB/s"] = per_second(tokenising(texts, vocabulary), flags.rounds)
    results["packing ids, MB/s"] = per_second(packing(texts, vocabulary, flags.length), flags.rounds)
    results["building the cache, MB/s"] = per_second(caching(task, size), flags.rounds)
    print(json.dumps(_rounded(results), indent=2))


def _rounded(results):
    if isinstance(results, dict):
        return {name: _rounded(value) for name, value in results.items()}
    return float(f"{results:.4g}")


if __name__ == "__main__":
    main(sys.argv[1:])
