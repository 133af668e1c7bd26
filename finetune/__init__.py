"""Fine-tuning: heads, tasks, evaluation; `python -m rootstock.finetune` and `python -m rootstock.finetune.evaluate`."""
