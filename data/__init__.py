"""Data sets on disk, label spaces, few-shot splits, decoding and views of images.

Shapes in all of its modules: N images, P views, C classes, R pixels a side of an image.
"""
