"""GLUE for encoders. `encoder` says what the rows are, `glue_sets` what is read and what oddities the files have.

`data_dir` is the folder of the official files (DIR/CoLA/train.tsv, plain, .gz or .xz), or a TFDS data_dir (DIR/glue/cola/2.0.0).
"""

from rootstock.data.suites import encoder
from rootstock.data.suites.encoder import EncoderTask
from rootstock.data.suites.glue_sets import SETS

_SENTENCES = encoder.pair("sentence1", "sentence2")
_NLI = encoder.pair("premise", "hypothesis")


def cola(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """The corpus of linguistic acceptability (Warstadt et al. 2018)."""
    return EncoderTask(SETS["cola"], data_dir, vocabulary, encoder.SENTENCE, length)


def sst2(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Sentiment of film reviews (Socher et al. 2013)."""
    return EncoderTask(SETS["sst2"], data_dir, vocabulary, encoder.SENTENCE, length)


def mrpc(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Microsoft's paraphrase corpus (Dolan and Brockett 2005)."""
    return EncoderTask(SETS["mrpc"], data_dir, vocabulary, _SENTENCES, length)


def stsb(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """The semantic textual similarity benchmark (Cer et al. 2017): a score from 0 to 5, -1 where there is none."""
    return EncoderTask(SETS["stsb"], data_dir, vocabulary, encoder.SIMILARITY, length)


def qqp(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Quora's question pairs."""
    return EncoderTask(SETS["qqp"], data_dir, vocabulary, encoder.pair("question1", "question2"), length)


def mnli(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Multi-genre natural language inference (Williams et al. 2018); splits train, validation_matched, validation_mismatched, ..."""
    return EncoderTask(SETS["mnli"], data_dir, vocabulary, _NLI, length)


def qnli(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Whether a sentence answers a question (from SQuAD, Rajpurkar et al. 2016)."""
    return EncoderTask(SETS["qnli"], data_dir, vocabulary, encoder.pair("question", "sentence"), length)


def rte(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Recognising textual entailment; the task's name is glue_rte, since SuperGLUE has an rte of other files."""
    return EncoderTask(SETS["glue_rte"], data_dir, vocabulary, _SENTENCES, length)


def wnli(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Winograd schemas as inference (Levesque et al. 2012)."""
    return EncoderTask(SETS["wnli"], data_dir, vocabulary, _SENTENCES, length)


def ax(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """The diagnostics: a test without labels for a model of MNLI."""
    return EncoderTask(SETS["ax"], data_dir, vocabulary, _NLI, length)


TASKS = {function.__name__: function for function in (cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli, ax)}
# Class names in the order of their indices, as TFDS has them; none for STS-B, whose label is a number.
LABELS = {name: SETS["glue_rte" if name == "rte" else name].labels for name in TASKS}
