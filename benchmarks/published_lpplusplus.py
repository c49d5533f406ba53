"""LP++ as its public code and its paper have it, to compare our head with.

Source: Huang et al., "LP++: A Surprisingly Strong Linear Probe for Few-Shot CLIP", CVPR 2024, and
its public code, whose updates these repeat within 1e-4. That code picks its best iteration on a
validation set; this one stops at `n_iter`.
"""

import jittor as jt
import numpy as np

from models.heads.lpplusplus import LPPlusPlus
from models.heads.softmax_regression import SoftmaxRegression, variable


class PublishedLPPlusPlus(LPPlusPlus):
    """LP++ with the published updates: no metric, no penalty, one alpha per class.

    clear_alpha_gradient: use the gradient of one iteration for alpha, as the paper does. The public
    code never clears it, so that each move of alpha uses the sum over all iterations so far.
    """

    def __init__(
        self, n_iter: int = 300, momentum: float = 0.9, clear_alpha_gradient: bool = False
    ):
        super().__init__(n_iter, momentum)
        self.clear_alpha_gradient = clear_alpha_gradient

    def _learn(self, features, labels, cosines, seen) -> None:
        one_hot = np.eye(cosines.shape[1])[labels]  # [N,C]
        own = (one_hot * cosines).sum(axis=0) / one_hot.sum(axis=0)
        alpha = 250 * float(own.mean())
        regression = SoftmaxRegression(
            features,
            cosines,
            labels,
            np.ones(len(labels), bool),
            alpha,
            weights=features.T @ one_hot,  # sums of each class's rows
        )
        self.loss_history_ = self._descend(regression)
        weights, offsets = regression.weights.numpy().T, regression.offsets.numpy()[0]
        alphas = regression.alphas.numpy()[0]
        self._set_classes(alpha, seen, weights=weights, offsets=offsets, alphas=alphas)

    def _descend(self, regression: SoftmaxRegression) -> list[float]:
        """Runs the updates; returns the mean cross-entropy before each of them.

        Weights and offsets move together by 4N/lambda, twice the guaranteed step. Alpha moves every
        tenth iteration by N / (4 max_k sum c_ik^2).
        """
        squares = (regression.cosines.numpy().astype(np.float64) ** 2).sum(axis=0)  # [C]
        step, decay = variable(4 / regression.largest_eigenvalue), variable(self.momentum)
        alpha_step = variable(1 / (4 * squares.max()))
        kept_share = variable(0 if self.clear_alpha_gradient else 1)
        offset_speed, summed = (variable(np.zeros(regression.alphas.shape)) for _ in range(2))
        speed = variable(np.zeros(regression.weights.shape))
        history = []
        with jt.no_grad():
            for iteration in range(1, self.n_iter + 1):
                to_weights, to_offsets, difference, losses = regression.gradient()
                speed = decay * speed + to_weights
                offset_speed = decay * offset_speed + to_offsets
                regression.weights = regression.weights - step * speed
                regression.offsets = regression.offsets - step * offset_speed
                products = jt.matmul(regression.ones, difference * regression.cosines)
                summed = kept_share * summed + products
                if iteration % 10 == 0:
                    regression.alphas = regression.alphas - alpha_step * summed
                variables = [regression.weights, regression.alphas, regression.offsets]
                jt.sync([*variables, speed, offset_speed, summed, losses])
                history.append(regression.mean_loss(losses))
        return history
