"""The gradient of a linear classifier's cross-entropy with respect to its logits, in one pass.

Its plain reference is `SoftmaxRegression._plain_difference` in `models.heads.softmax_regression`.
"""

import jittor as jt

from kernels import cpu_operator

HEADERS = ("lanes", "softmax_gradient")
CODE = """
    softmax::gradient(in0->shape[0], in0->shape[1], in0_p, in1_p, in2_p, in3_p, in4_p, in5_p,
                      out0_p, out1_p);
"""


def softmax_gradient(
    products: jt.Var, scales: jt.Var, cosines: jt.Var, offsets: jt.Var, labels: jt.Var, mask: jt.Var
) -> list[jt.Var]:
    """Returns mask (P - Y) [N,C] and the cross-entropy of each row [N,1], float32 on the CPU.

    P is the softmax of the logits products[N,C] + scales[1,C] cosines[N,C] + offsets[1,C], and Y
    are the labels, one-hot. labels[N,1]: class numbers; mask[N,1]: 1 or 0; all are float32.
    The result itself has no gradient.
    """
    inputs = [products, scales, cosines, offsets, labels, mask]
    shapes = [tuple(products.shape), tuple(mask.shape)]
    return cpu_operator.run(HEADERS, CODE, inputs, shapes, {})
