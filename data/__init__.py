"""Data sets on disk, few-shot splits, decoding and views of images."""
