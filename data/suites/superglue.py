"""SuperGLUE for encoders. `encoder` says what the rows are, `superglue_sets` what is read and what oddities the files have.

`data_dir` is the folder of the official files (DIR/BoolQ/train.jsonl, plain, .gz or .xz), or a TFDS data_dir (DIR/super_glue/boolq/1.0.2).
"""

from rootstock.data.suites import encoder
from rootstock.data.suites.encoder import EncoderTask
from rootstock.data.suites.superglue_sets import SETS

# Class names in the order of their indices, as TFDS has them. ReCoRD's rows are entities that are, or are not, an answer.
LABELS = {name: of.labels for name, of in SETS.items()} | {"record": ("False", "True")}

_NLI = encoder.pair("premise", "hypothesis")


def boolq(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Yes or no questions about a passage (Clark et al. 2019)."""
    return EncoderTask(SETS["boolq"], data_dir, vocabulary, encoder.BOOLQ, length)


def cb(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """CommitmentBank (de Marneffe et al. 2019)."""
    return EncoderTask(SETS["cb"], data_dir, vocabulary, _NLI, length)


def copa(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Choice of plausible alternatives (Roemmele et al. 2011)."""
    return EncoderTask(SETS["copa"], data_dir, vocabulary, encoder.COPA, length)


def multirc(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Multi-sentence reading comprehension (Khashabi et al. 2018)."""
    return EncoderTask(SETS["multirc"], data_dir, vocabulary, encoder.MULTIRC, length)


def record(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Reading comprehension with commonsense reasoning (Zhang et al. 2018)."""
    return EncoderTask(SETS["record"], data_dir, vocabulary, encoder.RECORD, length)


def rte(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Recognising textual entailment (Dagan et al. 2006 and later)."""
    return EncoderTask(SETS["rte"], data_dir, vocabulary, _NLI, length)


def wic(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """Words in context (Pilehvar and Camacho-Collados 2019)."""
    return EncoderTask(SETS["wic"], data_dir, vocabulary, encoder.WIC, length)


def wsc(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """The Winograd schema challenge (Levesque et al. 2012)."""
    return EncoderTask(SETS["wsc"], data_dir, vocabulary, encoder.WSC, length)


def axb(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """The broad diagnostics: entailment by linguistic phenomenon, a test for a model of RTE."""
    return EncoderTask(SETS["axb"], data_dir, vocabulary, encoder.pair("sentence1", "sentence2"), length)


def axg(data_dir: str, vocabulary: str, length: int) -> EncoderTask:
    """The gender diagnostics (Winogender, Rudinger et al. 2018), a test for a model of RTE; rows 2n and 2n + 1 differ in gender alone."""
    return EncoderTask(SETS["axg"], data_dir, vocabulary, _NLI, length)


TASKS = {function.__name__: function for function in (boolq, cb, copa, multirc, record, rte, wic, wsc, axb, axg)}
