"""Features of images and sentences, computed once and cached."""
