"""The pictures of the report are the views that the encoder saw."""

import numpy as np
from PIL import Image

from data.decoding import decode
from data.views import Crops, Views, random_view
from fewshot.evaluation.report.pictures import SIDE, make_picture

VIEWS = Views(3, Crops((0.5, 1.0)), 7)


def test_a_picture_is_the_view_of_that_number(tmp_path):
    path = tmp_path / "image.png"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    expected = random_view(decode(path), SIDE, VIEWS.crops, VIEWS.seed, 2)
    assert make_picture(path, VIEWS, 2).tobytes() == expected.tobytes()
    assert make_picture(path, VIEWS, 0).size == (SIDE, SIDE)


def test_an_image_that_is_gone_is_grey(tmp_path):
    grey = make_picture(tmp_path / "gone.png", VIEWS, 0)
    assert grey.size == (SIDE, SIDE) and grey.getextrema() == ((128, 128),) * 3
