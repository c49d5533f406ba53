"""The pictures of the report: views of test images, made again from their files."""

from pathlib import Path

from PIL import Image

from data.decoding import BrokenImage, decode
from data.views import Views, random_view
from jclip.preprocess import centre_crop, resize_short_side

SIDE = 160  # pixels


def make_picture(path: Path, views: Views, number: int) -> Image.Image:
    """Returns view `number` of an image, RGB; grey if the image cannot be read any more."""
    try:
        image = decode(path)
        if number:
            return random_view(image, SIDE, views.crops, views.seed, number)
        return centre_crop(resize_short_side(image, SIDE), SIDE).convert("RGB")
    except (BrokenImage, ValueError):
        return Image.new("RGB", (SIDE, SIDE), "grey")
