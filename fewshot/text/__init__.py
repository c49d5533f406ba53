"""Class texts: from class names and sentences to class vectors.

Shapes in all of its modules: C classes, S sentences, O words, K base classes, E embedding.
"""
