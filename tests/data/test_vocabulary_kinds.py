"""Byte-level BPE against an encoder written here after GPT-2's; T5's and ByT5's vocabularies; saving every kind."""

import functools
import itertools
import json
import pathlib
import pickle
import random
import re
import shutil

import pytest
import sentencepiece
from tokenizers import ByteLevelBPETokenizer

from rootstock.data import files, vocabularies
from rootstock.data.errors import DataError

SAMPLES = [
    "",
    "The cat sat on the mat, didn't it? We'll see: 'twas 1,234.50 $ (or so)...",
    "  two  blanks\tand\n\nnew lines \n ",
    "Crème brûlée ÅNGSTRÖM 北京 한국어 \U0001f642 café",
    "a\x00b\u200bc\u00a0d",
]
ROBERTA = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@functools.cache
def characters_of_bytes():
    """GPT-2's bytes_to_unicode: printable bytes are themselves, the others follow from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(others)}


class Reference:
    """Sennrich's merges over GPT-2's words. Python's \\w stands in for letters and numbers, which differ in rare signs alone."""

    WORDS = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")

    def __init__(self, vocabulary, merges):
        self.ids = json.loads(pathlib.Path(vocabulary).read_text(encoding="utf-8"))
        lines = pathlib.Path(merges).read_text(encoding="utf-8").split("\n")[1:]
        self.ranks = {tuple(line.split(" ")): rank for rank, line in enumerate(lines) if line}

    def encode(self, text):
        return [self.ids[piece] for word in self.WORDS.findall(text) for piece in self.merged(word)]

    def merged(self, word):
        parts = [characters_of_bytes()[byte] for byte in word.encode()]
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, float("inf")))
            if best not in self.ranks:
                break
            joined, i = [], 0
            while i < len(parts):
                together = tuple(parts[i : i + 2]) == best
                joined.append("".join(best) if together else parts[i])
                i += 2 if together else 1
            parts = joined
        return parts


def train_byte_level(folder, specials):
    text = files.open_text("data/demo/novels/Burnett_Garden_1911.txt.xz")
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(
        [line for line, _ in zip(text, range(800), strict=False)], 600, special_tokens=specials, show_progress=False
    )
    tokenizer.save_model(str(folder))
    return folder


@pytest.fixture(scope="module")
def roberta(tmp_path_factory):
    return train_byte_level(tmp_path_factory.mktemp("roberta"), ROBERTA)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return train_byte_level(tmp_path_factory.mktemp("gpt2"), ["<|endoftext|>"])


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    chance = random.Random(0)
    path = tmp_path_factory.mktemp("t5") / "spiece.model"
    texts = ["".join(chance.choices("abcdefg ", k=40)) for _ in range(200)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=path.open("wb"), vocab_size=40, minloglevel=2, hard_vocab_limit=False,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    return path


def test_byte_level_is_gpt2s(gpt2):
    ours, reference = vocabularies.load(gpt2), Reference(gpt2 / "vocab.json", gpt2 / "merges.txt")
    lines = [
        *SAMPLES,
        *(line for line, _ in zip(files.open_text("data/demo/novels/Stevenson_Treasure_1883.txt.xz"), range(300), strict=False)),
    ]
    for text in lines:
        ids, offsets = ours.encode_with_offsets(text)
        assert ours.encode(text) == ids == reference.encode(text)
        assert ours.decode(ids) == text  # nothing is lost
        assert all(0 <= start <= end <= len(text) for start, end in offsets)
    assert ours.encode_batch(lines) == [ours.encode(text) for text in lines]
    assert (ours.pad_id, ours.unk_id, ours.cls_id, ours.sep_id, ours.mask_id, ours.eos_id) == (None,) * 5 + (0,)


@pytest.mark.real_data
@pytest.mark.parametrize("name, size, specials", [("gpt2", 50257, (50256,)), ("roberta", 50265, (0, 1, 2, 3, 50264))])
def test_published_byte_level(real_data, name, size, specials):
    folder = pathlib.Path(real_data, "vocab")
    ours = vocabularies.load(folder / f"{name}-merges.txt")
    reference = Reference(folder / f"{name}-vocab.json", folder / f"{name}-merges.txt")
    lines = [
        *SAMPLES,
        *(line for line, _ in zip(files.open_text("data/demo/novels/Stevenson_Treasure_1883.txt.xz"), range(300), strict=False)),
    ]
    assert ours.encode_batch(lines) == [reference.encode(text) for text in lines]
    assert (ours.size, ours.special_ids) == (size, specials)
    if name == "roberta":
        assert ours.encode("Hello world") == [31414, 232]  # as in fairseq's README, where <s> 0 and </s> 2 stand around "Hello world!"


def test_offsets_of_byte_level(roberta):
    ours, text = vocabularies.load(roberta), "the café 北 garden"
    ids, offsets = ours.encode_with_offsets(text)
    assert {text[start:end] for start, end in offsets} >= {"é", "北"}  # of all bytes of a character
    assert not any(text[start:end].startswith(" ") for start, end in offsets)
    assert offsets[ids.index(ours.id_of("Ġgarden"))] == (11, 17)


def test_roberta_reads_its_special_pieces(roberta):
    ours = vocabularies.load(roberta)
    assert (ours.cls_id, ours.pad_id, ours.sep_id, ours.unk_id, ours.mask_id, ours.eos_id) == (0, 1, 2, 3, 4, 2)
    assert ours.encode("the <mask></s>") == [*ours.encode("the"), 4, 2]  # the blank before the mask is the mask's


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda folder: (folder / "merges.txt").unlink(), r"is half of a byte-level BPE vocabulary; the other half, '.*merges\.txt'"),
        (
            lambda folder: (folder / "merges.txt").write_text("#version: 0.2\na b c\n"),
            r"merges\.txt' line 2 is 'a b c'; expected two pieces",
        ),
        (lambda folder: (folder / "merges.txt").write_text("#version: 0.2\nq qqq\n"), r"merges\.txt' do not belong together"),
        (lambda folder: (folder / "vocab.json").write_text('{"a": 0, "b": 0}'), r"vocab\.json' is no BPE vocabulary"),
        (lambda folder: (folder / "vocab.json").write_text("[1"), r"vocab\.json' is not JSON"),
    ],
)
def test_broken_byte_level(roberta, tmp_path, change, message):
    shutil.copytree(roberta, tmp_path / "broken")
    change(tmp_path / "broken")
    with pytest.raises(DataError, match=message):
        vocabularies.load(tmp_path / "broken" / "vocab.json")


def test_t5_has_its_sentinels_behind_the_last_piece(t5):
    ours = vocabularies.load(t5)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(t5)).get_piece_size()
    assert ours.size == pieces + 100
    assert ours.sentinel_ids == tuple(range(pieces + 99, pieces - 1, -1))
    assert ours.piece_of(ours.size - 1) == "<extra_id_0>" and ours.id_of("<extra_id_99>") == pieces
    assert ours.special_ids == (0, 1, 2) and ours.eos_id == ours.sep_id == 1
    assert ours.decode([*ours.encode("abc"), ours.sentinel_ids[1]]) == "abc<extra_id_1>"
    assert vocabularies.load(t5, extra_ids=0).sentinel_ids == ()
    assert vocabularies.load(t5, extra_ids=7).size == pieces + 7
    with pytest.raises(DataError, match="extra_ids is -1"):
        vocabularies.load(t5, extra_ids=-1)


@pytest.mark.real_data
def test_published_t5(real_data):
    ours = vocabularies.load(pathlib.Path(real_data, "vocab", "t5-spiece.model"))
    assert (ours.size, ours.pad_id, ours.eos_id, ours.unk_id, ours.sentinel_ids[0]) == (32100, 0, 1, 2, 32099)
    assert ours.encode("translate English to German: That is good.") == [
        13959,
        1566,
        12,
        2968,
        10,
        466,
        19,
        207,
        5,
    ]  # transformers 5.23 too
    carried = vocabularies.load(pathlib.Path(real_data, "vocab", "t5-cc_all.32000.100extra-sentencepiece.model"))
    assert (carried.size, carried.sentinel_ids[:2], len(carried.sentinel_ids)) == (32101, (32100, 32099), 100)
    others = {name: vocabularies.load(pathlib.Path(real_data, "vocab", f"{name}.model")) for name in ("albert-v1-spiece", "deberta-v3-spm")}
    assert {name: (other.size, other.sentinel_ids) for name, other in others.items()} == {
        "albert-v1-spiece": (30000, ()), "deberta-v3-spm": (128001, ()),
    }  # fmt: skip


def test_bytes():
    ours = vocabularies.load("bytes")
    assert ours.size == 259 and ours.special_ids == (0, 1, 2)
    assert (ours.pad_id, ours.eos_id, ours.unk_id, ours.mask_id) == (0, 1, 2, None)
    assert ours.encode("aé北") == [97 + 3, 0xC3 + 3, 0xA9 + 3, 0xE5 + 3, 0x8C + 3, 0x97 + 3]
    assert ours.encode_with_offsets("aé") == ([100, 198, 172], [(0, 1), (1, 2), (1, 2)])
    assert ours.decode([*ours.encode("aé"), 1]) == "aé</s>"
    assert ours.decode([100, 198]) == "a"  # half a character
    # transformers' page on ByT5: "mask tokens count down from index 258"
    assert ours.sentinel_ids == tuple(range(258, 158, -1))
    for i in range(259):
        assert ours.id_of(ours.piece_of(i)) == i
    more = vocabularies.load("bytes", extra_ids=125)
    assert (more.size, more.sentinel_ids[0], len(more.sentinel_ids)) == (384, 383, 125)
    assert more.encode("aé") == ours.encode("aé") and more.checksum != ours.checksum


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "t5", "three sentinels", "bytes", "bytes and more", "json"])
def test_every_kind_is_saved_and_pickled(kind, gpt2, roberta, t5, tmp_path):
    if kind == "json":
        vocabularies.load(roberta).export(tmp_path)
    ours = {
        "gpt2": lambda: vocabularies.load(gpt2 / "merges.txt"),
        "roberta": lambda: vocabularies.load(roberta / "vocab.json"),
        "t5": lambda: vocabularies.load(t5),
        "three sentinels": lambda: vocabularies.load(t5, extra_ids=3),
        "bytes": lambda: vocabularies.load("bytes"),
        "bytes and more": lambda: vocabularies.load("bytes", extra_ids=5),
        "json": lambda: vocabularies.load(tmp_path / "tokenizer.json"),
    }[kind]()
    ours.save(tmp_path / "saved")
    shutil.copytree(tmp_path / "saved", tmp_path / "moved")  # as a checkpoint does
    for again in (vocabularies.load(tmp_path / "moved"), pickle.loads(pickle.dumps(ours))):
        for name in ("checksum", "size", "special_ids", "sentinel_ids", "eos_id", "extra_ids"):
            assert getattr(again, name) == getattr(ours, name), name
        assert again.encode("abc de") == ours.encode("abc de")


@pytest.mark.parametrize("kind", ["gpt2", "roberta", "t5", "bytes"])
def test_exported_for_hugging_face_and_read_from_there(kind, gpt2, roberta, t5, tmp_path):
    ours = vocabularies.load({"gpt2": gpt2, "roberta": roberta, "t5": t5, "bytes": "bytes"}[kind])
    ours.export(tmp_path)
    again = vocabularies.load(tmp_path)
    assert (again.size, again.special_ids, again.sentinel_ids) == (ours.size, ours.special_ids, ours.sentinel_ids)
    assert [again.encode(text) for text in SAMPLES] == [ours.encode(text) for text in SAMPLES]
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= ({"vocab.json", "merges.txt", "tokenizer.json"} if kind in ("gpt2", "roberta") else {"tokenizer_config.json"})


@pytest.mark.parametrize("setting", ['{"file": "spiece.model", "extra_ids": -1}', '{"file": "spiece.model", "extra_ids": true}'])
def test_wrong_settings(t5, tmp_path, setting):
    shutil.copy(t5, tmp_path)
    (tmp_path / "vocabulary.json").write_text(setting)
    with pytest.raises(DataError, match=r"vocabulary\.json' has extra_ids .*; expected a whole number, 0 or more"):
        vocabularies.load(tmp_path)
