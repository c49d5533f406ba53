"""Cross-entropy's slopes of a linear classifier beside text, on the CPU in one pass."""

from kernels import cpu_operator

HEADERS = ("lanes", "softmax_gradient")
CODE = """
    softmax::slopes(in0->shape[0], in0->shape[1], in0_p, in1_p, in2_p, in3_p, in4_p, in5_p, out0_p,
                    out1_p);
"""


def slopes(products, scales, cosines, offsets, labels, mask):
    """(mask (P - Y) [N,C], -log P of each row's label [N,1]) of the logits products[N,C] +
    scales[1,C] cosines[N,C] + offsets[1,C].

    labels[N,1] are numbers of classes, mask[N,1] is 1 or 0, all float32. Without gradients.
    """
    inputs = [products, scales, cosines, offsets, labels, mask]
    shapes = [tuple(products.shape), tuple(mask.shape)]
    return cpu_operator.run(HEADERS, CODE, inputs, shapes, {})
