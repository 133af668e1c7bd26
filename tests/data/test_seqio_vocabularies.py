"""Every vocabulary as seqio knows it: the same ids, and seqio's own class where it has one."""

import pytest
import sentencepiece

from rootstock.data import files, seqio_preprocessors, vocabularies

seqio = pytest.importorskip("seqio")
tf = pytest.importorskip("tensorflow")

TEXTS = ["The garden was quiet, and Mary said nothing.", "naïve 北京", ""]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A SentencePiece file in the layout of T5, one of BERT's, and one like DeBERTa's whose [MASK] lies behind the last piece."""
    folder = tmp_path_factory.mktemp("models")
    lines = [line for line, _ in zip(files.open_text("data/demo/novels/Burnett_Garden_1911.txt.xz"), range(600), strict=False)]
    for layout in ("t5", "bert"):
        vocabularies.train_unigram(lines, 300, folder / f"{layout}.model", layout)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=(folder / "deberta.model").open("wb"), vocab_size=300, minloglevel=2,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]", unk_piece="[UNK]",
    )  # fmt: skip
    return folder


@pytest.mark.parametrize(
    "name, kind",
    [
        ("t5.model", seqio.SentencePieceVocabulary),
        ("bert.model", seqio.SentencePieceVocabulary),
        ("deberta.model", seqio.Vocabulary),
        ("bytes", seqio.ByteVocabulary),
        ("data/demo/vocab.txt", seqio.Vocabulary),
    ],
)
def test_the_same_ids(models, name, kind):
    ours = vocabularies.load(models / name if name.endswith(".model") else name)
    theirs = vocabularies.seqio_vocabulary(ours)
    assert isinstance(theirs, kind)
    assert theirs.vocab_size == ours.size
    assert (theirs.pad_id, theirs.unk_id, theirs.eos_id) == (ours.pad_id, ours.unk_id, ours.sep_id)
    for text in TEXTS:
        assert theirs.encode(text) == theirs.encode_tf(tf.constant(text)).numpy().tolist() == ours.encode(text)
    assert theirs == vocabularies.seqio_vocabulary(ours)


def test_sentinels_are_seqios(models):
    ours = vocabularies.load(models / "t5.model")
    theirs = seqio.SentencePieceVocabulary(str(models / "t5.model"), extra_ids=100)
    assert theirs == vocabularies.seqio_vocabulary(ours)
    assert theirs.encode("<extra_id_0> <extra_id_99>") == [ours.id_of("<extra_id_0>"), ours.id_of("<extra_id_99>")]
    assert list(seqio_preprocessors.sentinels(theirs)) == list(ours.sentinel_ids)
    bytes_ = vocabularies.load("bytes", extra_ids=100)
    assert vocabularies.seqio_vocabulary(bytes_).vocab_size == bytes_.size == 359


def test_sentinels_of_released_models(models, tmp_path):
    """ByT5's are the last of its bytes; mT5's stand in its file; a file without any has none; ours say which they are."""
    assert list(seqio_preprocessors.sentinels(seqio.ByteVocabulary())) == list(range(258, 158, -1))
    lines = [line for line, _ in zip(files.open_text("data/demo/novels/Burnett_Garden_1911.txt.xz"), range(300), strict=False)]
    with (tmp_path / "mt5.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=file, vocab_size=200, minloglevel=2, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
            user_defined_symbols=["▁<extra_id_1>", "▁<extra_id_0>"],
        )  # fmt: skip
    inside = seqio.SentencePieceVocabulary(str(tmp_path / "mt5.model"), extra_ids=0)
    assert list(seqio_preprocessors.sentinels(inside)) == list(vocabularies.load(tmp_path / "mt5.model").sentinel_ids) == [4, 3]
    assert not list(seqio_preprocessors.sentinels(seqio.SentencePieceVocabulary(str(models / "t5.model"), extra_ids=0)))
    assert not list(seqio_preprocessors.sentinels(vocabularies.seqio_vocabulary(vocabularies.load("data/demo/vocab.txt"))))
