"""Makes this folder anew with the library `datasets` of Hugging Face (5.2.0 made it): pip install datasets; python make.py"""

from pathlib import Path

from datasets import Dataset, DatasetDict

texts = [f"Document {i} of a set that the datasets library saved. Naïve." for i in range(6)]
texts[2], texts[4] = "", None
train = Dataset.from_dict({"id": list(range(6)), "text": texts})
validation = Dataset.from_dict({"id": [6], "text": ["The last one."]})
DatasetDict({"train": train, "validation": validation}).save_to_disk(Path(__file__).parent, num_shards={"train": 2, "validation": 1})
