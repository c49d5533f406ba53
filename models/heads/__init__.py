"""Classifiers on frozen features. Shapes: N rows, C classes, K classes with shots, E embedding."""
