"""Numbers that more than one room uses, once."""

LOGIT_SCALE = 100.0  # CLIP's learned temperature, clipped at 100 by the paper (section 2.5)
GUESSES = 5  # class ids a line of the result file
ENCODER_ROWS = {
    "cpu": 32,
    "cuda": 256,
}  # rows of every encoder call; fixed, see fewshot/features.py
