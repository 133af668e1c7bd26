"""Pretraining: objectives, and `python -m rootstock.pretrain`."""
