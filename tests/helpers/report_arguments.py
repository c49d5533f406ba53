"""Small predictions for tests of the report, with names that look like markup."""

import numpy as np
from PIL import Image

from data.label_space import LabelSpace
from fewshot.evaluation.tables import end_to_end
from fewshot.inference.classifiers import ENSEMBLE, ROUTED
from fewshot.inference.predictions import Predictions

HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "<img src=x onerror=alert(2)>.png",
    "\" autofocus onfocus=\"alert(3)' x='.jpg",
    "]]> --> </style></svg>&lt;b&amp;.jpg",
    "{{ 7 * 7 }}{% raw %}.jpg",
    "שלום \u202egpj.exe",
    "w" * 250 + ".jpg",
    "Grüße \U0001f600 \udcff\udcfe.jpg",
]
CLASSES = (
    "Animal_cat",
    "Animal_<script>alert(4)</script>",
    "Animal_" + "long" * 40,
    "Food_\"soup\" & 'bread'",
    "Food_apple_pie",
    "Food_טחינה",
    "<i>Cars</i>_Audi_R8",
    "<i>Cars</i>_Ford_F-150",
)
BASE = 6  # the first six
IMAGES, VIEWS = 60, 5


def picture(index: int, view: int) -> Image.Image:
    """Returns a picture of another size for each view."""
    values = np.random.RandomState(100 * index + view).randint(0, 256, (6, 8 + view, 3))
    return Image.fromarray(values.astype(np.uint8)).resize((160 + 40 * view, 200))


def arguments(*, labels: bool = True, base: int = BASE, views: int = VIEWS) -> dict:
    """Returns the arguments of `write_report` next to the path.

    Images 0 to 7 have hostile names and the least sure predictions. Image 8 could not be read.
    """
    draw = np.random.RandomState(1)
    label_space = LabelSpace(CLASSES, tuple(range(base)), has_domains=True)
    truth = np.arange(IMAGES) % len(CLASSES)
    logits = draw.randn(IMAGES, len(CLASSES))
    logits[np.arange(IMAGES), truth] += 2
    logits[: len(HOSTILE) + 1] *= 0.1
    scores = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :5]
    ood_log_odds = np.where(truth < base, 2, -2) + draw.randn(IMAGES)
    ood_log_odds[8] = np.nan
    names = HOSTILE + [f"image_{i}.jpg" for i in range(len(HOSTILE), IMAGES)]
    classifiers = ["zero_shot", *(form.id for form in ROUTED), ENSEMBLE, "lora"]
    best = label_space.best_of_groups(scores)
    view_weights = draw.dirichlet(np.ones(views), IMAGES)
    predictions = Predictions(
        names=names,
        ids=ids.astype(np.int32),
        probabilities=np.exp(np.take_along_axis(scores, ids, axis=1)).astype(np.float32),
        ood_log_odds=ood_log_odds.astype(np.float32),
        routed_to_base=ood_log_odds >= 0.25,
        view_weights=view_weights.astype(np.float32),
        skipped=[(names[8], "is <b>cut off</b>")],
        top1_among=dict.fromkeys(classifiers, best),
    )
    row = {"base": 0.5, "Animal": 0.25, "<s>Food</s>": 0.75, "new": 1.0, "all": 0.375}
    rows = {"zero_shot": row, "lora": row | {"trained": 12345, "seconds": 7}}
    ends = end_to_end(predictions.top1_among, truth, label_space)
    scores = {"rows": rows, "end_to_end": ends}
    return {
        "predictions": predictions,
        "label_space": label_space,
        "threshold": 0.25,
        "truth": truth if labels else None,
        "scores": scores if labels else None,
        "seconds": {"text": 0.42, "resumed": None, "<em>head</em>": 75.0, "test: encoding": 13.2},
        "settings": {"tta": "mta", "views": views, "split": "<a href=//x>/y</a>"},
        "picture": picture,
    }
