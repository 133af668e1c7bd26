"""Vocabularies against the libraries that define them."""

import json
import pickle
import random

import pytest
import sentencepiece
from tokenizers import BertWordPieceTokenizer

from rootstock.data import files, vocabularies
from rootstock.data.errors import DataError

DEMO = "data/demo/vocab.txt"
SAMPLES = [
    "",
    "The cat sat on the mat.",
    "Crème brûlée, naïve ÅNGSTRÖM İstanbul ﬁne",
    "北京 is 中国's capital, 東京 is not",
    "tabs\tand\nnewlines\r\nand\x00control\x07 characters\u200b, \ufffd and a no-break\u00a0space",
    "(1918) $3.50 e-mail@address.org `code` --- ... don't",
    "a[MASK]b [SEP] [unused1]",
    "antidisestablishmentarianism" * 5,
]


@pytest.fixture(scope="module")
def demo():
    return vocabularies.load(DEMO)


@pytest.mark.parametrize("lowercase", [True, False])
def test_wordpiece_is_berts(lowercase):
    path = files.resolve(DEMO)
    reference = BertWordPieceTokenizer(str(path), lowercase=lowercase)
    ours = vocabularies.load(path, lowercase=lowercase)
    for text in SAMPLES:
        expected = reference.encode(text, add_special_tokens=False)
        assert ours.encode(text) == expected.ids
        assert ours.encode_with_offsets(text) == (expected.ids, expected.offsets)
    assert ours.encode_batch(SAMPLES) == [ours.encode(text) for text in SAMPLES]


def test_bert_normalisation(vocabulary):
    assert vocabulary.decode(vocabulary.encode("Thé\x00 CÂT\u00a0sat\tnot")) == "the cat sat not"
    unknown = vocabulary.unk_id
    assert vocabulary.encode("北京cat") == [unknown, unknown, vocabulary.id_of("cat")]  # each Chinese character is a word


def test_offsets_count_characters_of_the_text(vocabulary):
    text = "é Thé cats!"
    ids, offsets = vocabulary.encode_with_offsets(text)
    assert [(vocabulary.piece_of(i), text[start:end]) for i, (start, end) in zip(ids, offsets, strict=True)] == [
        ("e", "é"), ("the", "Thé"), ("cat", "cat"), ("##s", "s"), ("!", "!"),
    ]  # fmt: skip


def test_demo_specials(demo):
    assert (demo.pad_id, demo.unk_id, demo.cls_id, demo.sep_id, demo.mask_id) == (0, 1, 2, 3, 4)
    assert demo.special_ids == (0, 1, 2, 3, 4)
    assert demo.size == 4000
    assert demo.unk_id not in demo.encode("In 1918 (U.S.): `quick' brown-fox@den.org #7 {x} [y] 50% & *z* <a|b> ~ ^ \\ /")


def test_case_is_found_out(tmp_path):
    for word, lowercase in (("a", True), ("A", False)):
        path = tmp_path / f"{lowercase}.txt"
        path.write_text("\n".join([*vocabularies.SPECIALS, word]) + "\n")
        assert vocabularies.load(path).lowercase is lowercase


@pytest.mark.parametrize("lowercase", [True, False])
def test_save_and_load(tmp_path, vocabulary_file, lowercase):
    ours = vocabularies.load(vocabulary_file, lowercase=lowercase)
    ours.save(tmp_path / "saved")
    again = vocabularies.load(tmp_path / "saved")
    assert (again.checksum, again.size, again.lowercase) == (ours.checksum, ours.size, lowercase)
    assert again.encode("The cat") == ours.encode("The cat")
    assert pickle.loads(pickle.dumps(ours)).encode("The cat") == ours.encode("The cat")


def test_load_a_folder_of_hugging_face(tmp_path, vocabulary_file):
    (tmp_path / "vocab.txt").write_bytes(files.resolve(vocabulary_file).read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert vocabularies.load(tmp_path).lowercase is False


def test_tokenizer_json(tmp_path, vocabulary_file):
    reference = BertWordPieceTokenizer(vocabulary_file)
    reference.enable_padding(length=50)
    reference.enable_truncation(2)
    reference.save(str(tmp_path / "tokenizer.json"))
    ours, same = vocabularies.load(tmp_path / "tokenizer.json"), vocabularies.load(vocabulary_file)
    assert [ours.encode(text) for text in SAMPLES] == [same.encode(text) for text in SAMPLES]
    assert ours.special_ids == same.special_ids
    assert ours.encode_batch(SAMPLES) == same.encode_batch(SAMPLES)


@pytest.fixture(scope="module")
def trained_sentencepiece(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentencepiece")
    chance = random.Random(0)
    (folder / "text").write_text("\n".join("".join(chance.choices("abcdefg ", k=40)) for _ in range(200)))

    def train(name, **options):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "text"), model_prefix=str(folder / name), vocab_size=40, minloglevel=2, hard_vocab_limit=False, **options
        )
        return folder / f"{name}.model"

    return train


def test_sentencepiece(trained_sentencepiece):
    path = trained_sentencepiece("t5", pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    ours, reference = vocabularies.load(path), sentencepiece.SentencePieceProcessor(model_file=str(path))
    for text in ("abc  defg", "aé bà"):
        assert ours.encode(text) == reference.encode(text)
        ids, offsets = ours.encode_with_offsets(text)
        assert ids == ours.encode(text)
        assert "".join(text[start:end] for start, end in offsets) == text
    assert ours.encode_batch(["abc", "d"]) == [ours.encode("abc"), ours.encode("d")]
    assert ours.decode(ours.encode("abc defg")) == "abc defg"
    assert (ours.pad_id, ours.sep_id, ours.unk_id, ours.cls_id, ours.mask_id) == (0, 1, 2, None, None)
    assert ours.special_ids == (0, 1, 2)
    with pytest.raises(DataError, match=r"lacks a piece that this task needs \(cls: \[CLS\] or <cls> or <s>; mask: \[MASK\] or <mask>\)"):
        ours.require("pad", "cls", "mask")


def test_deberta_has_its_mask_behind_the_last_piece(trained_sentencepiece):
    names = {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
    ours = vocabularies.load(trained_sentencepiece("deberta", pad_id=0, bos_id=1, eos_id=2, unk_id=3, **names))
    pieces = sentencepiece.SentencePieceProcessor(model_file=ours.path).get_piece_size()
    assert (ours.pad_id, ours.cls_id, ours.sep_id, ours.unk_id, ours.mask_id) == (0, 1, 2, 3, pieces)
    assert ours.size == pieces + 1
    assert "[MASK]" in ours.decode([ours.mask_id])


def test_train(tmp_path):
    texts = ["the cat sat on the mat and the cats sat " * 20]
    first = vocabularies.train_wordpiece(texts, 115, tmp_path / "a.txt")
    second = vocabularies.train_wordpiece(iter(texts), 115, tmp_path / "b.txt")
    assert first.checksum == second.checksum
    assert [first.piece_of(i) for i in range(5)] == list(vocabularies.SPECIALS)
    assert first.size == 115
    assert first.encode("the") == [first.id_of("the")]
    with pytest.raises(DataError, match="9,000 were asked for"):
        vocabularies.train_wordpiece(texts, 9000, tmp_path / "c.txt")


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("vocab.txt", b"[PAD]\n[UNK]\nthe\n", r"of its 3 lines none is \[CLS\] or \[SEP\] or \[MASK\]"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\na\nthe\n", r"line 6: the piece 'the' stands again on line 8"),
        ("vocab.txt", b"\xff\xfe", "is not UTF-8"),
        ("tokenizer.json", b"{}", r"is not a tokenizer\.json"),
        ("spiece.model", b"junk", "is not a SentencePiece model"),
        ("merges.bpe", b"", "is no vocabulary by its name"),
    ],
)
def test_what_is_no_vocabulary(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        vocabularies.load(tmp_path / name)


def test_a_folder_without_vocabulary(tmp_path):
    with pytest.raises(DataError, match="holds no vocabulary"):
        vocabularies.load(tmp_path)
