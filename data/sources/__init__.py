"""Where the documents of a pretraining corpus come from. A recipe names one of these as the `source` of a task:

    Files          text, JSON lines and Parquet by glob; a plain string stands for it
    Tfds           a data set in a TFDS data_dir: c4, wikipedia, any
    SavedDataset   what the library `datasets` of Hugging Face saved to disk

All are read as streams, and a mistake in them ends in one DataError that names file and row.
"""

from rootstock.data.sources.hugging_face import SavedDataset
from rootstock.data.sources.local import Files
from rootstock.data.sources.source import Source
from rootstock.data.sources.tfds import Tfds

__all__ = ["Files", "SavedDataset", "Source", "Tfds", "source_of"]


def source_of(source: Source | str | tuple[str, ...] | list[str]) -> Source:
    """The source itself, or the files that globs and folders stand for."""
    return source if isinstance(source, Source) else Files(source)
