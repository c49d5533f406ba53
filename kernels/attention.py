"""Self-attention: one fused operator for the CPU, one for a GPU, and the plain form in Jittor.

Jittor 1.3.11 computes the two products of attention in plain loops on the CPU, several times
slower, and writes every array between them to memory. Source: Vaswani et al. 2017
(https://arxiv.org/abs/1706.03762), section 3.2. Shapes: N sequences, L tokens, D width, H heads.
"""

import jittor as jt
from jittor import nn

from kernels import cpu_operator, cuda_operator
from kernels.cpu_operator import LANES

MASKED = -1e30  # the score of a hidden token: finite, so no NaN can arise; its weight is exactly 0
HEADERS = ("lanes", "attention")
CODE = """
    fast_attention::Setting s{in0->shape[0], in0->shape[1], in0->shape[2] / 3, (long)data["heads"],
                              (long)data["causal"]};
    fast_attention::run(s, in0_p, %s, out0_p);
"""
FORWARD, BACKWARD = CODE % "nullptr", CODE % "in1_p"
MAX_GPU_HEAD = 64  # numbers of one head on a GPU, where a thread holds a row of them in registers
CUDA_CODE = """
    int heads = data["heads"];
    cuda_attention::Setting s{(int)in0->shape[0], (int)in0->shape[1], heads, (int)data["causal"]};
    cuda_attention::%s<%d><<<s.sequences * heads, s.threads()>>>(s, %s);
"""
CUDA_FORWARD, CUDA_BACKWARD = "in0_p, out0_p", "in0_p, in1_p, out0_p, out1_p"


def self_attention(qkv: jt.Var, heads: int, causal: bool = False) -> jt.Var:
    """Returns the attention [N, L, D] of queries, keys and values that stand side by side.

    qkv: [N, L, 3D], of which each third holds all heads. `causal` hides from each token those after
    it. Takes the fused operator if it fits, else the plain form.
    """
    if fits(qkv, heads):
        return fused_attention(qkv, heads, causal)
    width = qkv.shape[2] // 3
    query, key, value = (qkv[:, :, i * width : (i + 1) * width] for i in range(3))
    return plain_attention(query, key, value, heads, causal)


def plain_attention(
    query: jt.Var, key: jt.Var, value: jt.Var, heads: int, causal: bool = False
) -> jt.Var:
    """Returns the attention [N, Q, D] of query[N, Q, D] to key[N, L, D] and value[N, L, D].

    By Jittor's own operators: the reference of the fused operators.
    """
    n, queries, width = query.shape
    q, k, v = (_split_heads(x, heads) for x in (query, key, value))
    scores = nn.bmm_transpose(q * (width // heads) ** -0.5, k)  # [N*H, Q, L]
    if causal:
        later = jt.index(scores.shape, 2) > jt.index(scores.shape, 1)
        scores = jt.ternary(later, jt.full_like(scores, MASKED), scores)
    mixed = nn.bmm(nn.softmax(scores, dim=-1), v)  # [N*H, Q, D/H]
    mixed = mixed.reshape(n, heads, queries, width // heads).permute(0, 2, 1, 3)
    return mixed.reshape(n, queries, width)


def _split_heads(x: jt.Var, heads: int) -> jt.Var:
    """Reorders [N, L, D] to [N*H, L, D/H]."""
    n, length, width = x.shape
    x = x.reshape(n, length, heads, width // heads).permute(0, 2, 1, 3)
    return x.reshape(n * heads, length, width // heads)


def fits(qkv: jt.Var, heads: int) -> bool:
    """Returns whether a fused operator takes qkv[N, L, 3D].

    It must be float32 with heads of a multiple of 16 numbers: on the CPU, or on a GPU under
    `--precision bf16` with heads of at most 64.
    """
    head = qkv.shape[2] // 3 // heads
    on_gpu = cuda_operator.accepts(qkv) and head <= MAX_GPU_HEAD
    return (on_gpu or cpu_operator.accepts(qkv)) and head % LANES == 0


def fused_attention(qkv: jt.Var, heads: int, causal: bool = False) -> jt.Var:
    """Computes `self_attention` by the operator of this device, float32.

    The bits of a sequence depend neither on the other sequences nor on the number of threads.
    Raises ValueError if qkv does not fit.
    """
    if qkv.ndim != 3 or qkv.shape[2] % (3 * heads) or not fits(qkv, heads):
        raise ValueError(
            f"attention: qkv is {qkv.dtype} {tuple(qkv.shape)} for {heads} heads; the operator "
            f"takes float32 [N, L, 3D] with heads of a multiple of {LANES} numbers"
        )
    return FusedAttention({"heads": heads, "causal": int(causal)})(qkv)


class FusedAttention(jt.Function):
    """The differentiable function behind `fused_attention`."""

    def __init__(self, setting: dict[str, int]):
        super().__init__()
        self.setting = setting

    def execute(self, qkv):
        self.qkv = qkv
        n, length, packed = qkv.shape
        shape = (n, length, packed // 3)
        if jt.flags.use_cuda:
            return self.run_on_gpu("forward", CUDA_FORWARD, [qkv], [shape])[0]
        return cpu_operator.run(HEADERS, FORWARD, [qkv], shape, self.setting)

    def grad(self, dy):
        inputs, shape = [self.qkv, dy], tuple(self.qkv.shape)
        if jt.flags.use_cuda:
            statistics = (shape[0], self.setting["heads"], shape[1], 2)
            return self.run_on_gpu("backward", CUDA_BACKWARD, inputs, [shape, statistics])[0]
        return cpu_operator.run(HEADERS, BACKWARD, inputs, shape, self.setting)

    def run_on_gpu(self, kernel, arguments, inputs, shapes):
        head = self.qkv.shape[2] // 3 // self.setting["heads"]
        code = CUDA_CODE % (kernel, head, arguments)
        return cuda_operator.run("attention_cuda", code, inputs, shapes, self.setting)
