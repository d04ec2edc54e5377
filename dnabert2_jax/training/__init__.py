"""Objectives, optimizer, checkpoints, and the two loops: pretrain.py and finetune.py."""
