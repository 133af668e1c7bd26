"""A vocabulary of ours behind the interface of seqio. Needs the extra `data`."""

from typing import Any


def adapt(vocabulary: Any) -> Any:
    """A seqio.Vocabulary with the same ids. [SEP] is its end of sequence."""
    import numpy as np
    import seqio
    import tensorflow as tf

    class Adapter(seqio.Vocabulary):
        """Encoding inside tf.data calls back into Python."""

        @property
        def bos_id(self):
            return vocabulary.cls_id

        @property
        def eos_id(self):
            return vocabulary.sep_id if vocabulary.sep_id is not None else vocabulary.eos_id

        @property
        def pad_id(self):
            return vocabulary.pad_id

        @property
        def unk_id(self):
            return vocabulary.unk_id

        @property
        def _base_vocab_size(self):
            return vocabulary.size

        def _encode(self, s):
            return vocabulary.encode(s)

        def _decode(self, ids):
            return vocabulary.decode(ids)

        def _encode_tf(self, s):
            def encode(text):  # bytes inside a graph, an array of one outside
                return np.array(vocabulary.encode(np.asarray(text, object).item().decode()), np.int32)

            return tf.ensure_shape(tf.numpy_function(encode, [s], tf.int32), [None])

        def _decode_tf(self, ids):
            def decode(array):
                flat = [vocabulary.decode(row).encode() for row in array.reshape(-1, array.shape[-1])]
                return np.array(flat, object).reshape(array.shape[:-1])

            return tf.ensure_shape(tf.numpy_function(decode, [ids], tf.string), ids.shape[:-1])

        def __eq__(self, other):  # a mixture asks whether its tasks agree
            return getattr(other, "checksum", None) == self.checksum

        checksum, sentinel_ids = vocabulary.checksum, vocabulary.sentinel_ids

    return Adapter()
