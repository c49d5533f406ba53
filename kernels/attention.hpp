// Self-attention of several heads on the CPU, forward and backward, in fp32. Jittor compiles it as
// the header of one operator (kernels/attention.py), after lanes.hpp. One thread computes one head
// of one sequence, in an order that depends only on the sequence's length. So neither the number of
// threads nor the other sequences change a bit.
#include <vector>

namespace fast_attention {

using namespace lanes;
// 6 x 4 registers of sums fill the 32 of AVX-512, and 6 x 2 the 16 of older processors. A vector
// wider than a register would lie in memory, at a tenth of the speed.
#if defined(__AVX512F__)
enum { REGISTER = 16, ROWS = 6, WIDE = 4 };
#elif defined(__AVX__)
enum { REGISTER = 8, ROWS = 6, WIDE = 2 };
#else
enum { REGISTER = 4, ROWS = 6, WIDE = 2 };
#endif
typedef float reg __attribute__((vector_size(4 * REGISTER), aligned(4), may_alias));

// c[R][REGISTER V] = sum over k of a[r * row + k * step] * b[k * ldb + ...], one tile of a product
template <int R, int V>
inline void tile(long depth, const float* a, long row, long step, const float* b, long ldb,
                 float* c, long ldc) {
    reg sums[R][V] = {};
    for (long k = 0; k < depth; k++, a += step, b += ldb) {
        reg row_of_b[V];
        for (int v = 0; v < V; v++) row_of_b[v] = *(const reg*)(b + v * REGISTER);
        for (int r = 0; r < R; r++)
            for (int v = 0; v < V; v++) sums[r][v] += a[r * row] * row_of_b[v];
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) *(reg*)(c + r * ldc + v * REGISTER) = sums[r][v];
}

// c[rows][REGISTER V] = a b, a column of tiles.
template <int V>
inline void multiply_columns(long rows, long depth, const float* a, long row, long step,
                             const float* b, long ldb, float* c, long ldc) {
    for (; rows >= ROWS; rows -= ROWS, a += ROWS * row, c += ROWS * ldc)
        tile<ROWS, V>(depth, a, row, step, b, ldb, c, ldc);
    if (rows == 5) tile<5, V>(depth, a, row, step, b, ldb, c, ldc);
    if (rows == 4) tile<4, V>(depth, a, row, step, b, ldb, c, ldc);
    if (rows == 3) tile<3, V>(depth, a, row, step, b, ldb, c, ldc);
    if (rows == 2) tile<2, V>(depth, a, row, step, b, ldb, c, ldc);
    if (rows == 1) tile<1, V>(depth, a, row, step, b, ldb, c, ldc);
}

// c[rows][columns] = a b; columns is a multiple of LANES.
inline void multiply(long rows, long columns, long depth, const float* a, long row, long step,
                     const float* b, long ldb, float* c, long ldc) {
    const long wide = WIDE * REGISTER;
    for (; columns >= wide; columns -= wide, b += wide, c += wide)
        multiply_columns<WIDE>(rows, depth, a, row, step, b, ldb, c, ldc);
    if (columns == 3 * REGISTER) multiply_columns<3>(rows, depth, a, row, step, b, ldb, c, ldc);
    if (columns == 2 * REGISTER) multiply_columns<2>(rows, depth, a, row, step, b, ldb, c, ldc);
    if (columns == REGISTER) multiply_columns<1>(rows, depth, a, row, step, b, ldb, c, ldc);
}

struct Setting {
    long sequences, length, width, heads, causal;
    long head() const { return width / heads; }
    long padded() const { return (length + LANES - 1) / LANES * LANES; }
    float scale() const { return 1 / sqrtf(head()); }
};

// Transposes from[length][head], with rows `stride` apart, to to[head][padded]. Padding is zero.
inline void transpose_head(const Setting& s, const float* from, long stride, float* to) {
    for (long l = 0; l < s.padded(); l += LANES)
        for (long d = 0; d < s.head(); d += LANES) {
            vec rows[LANES];
            for (int i = 0; i < LANES; i++)
                rows[i] = l + i < s.length ? at(from + (l + i) * stride + d) : vec{};
            transpose<ivec>(rows);
            for (int i = 0; i < LANES; i++) at(to + (d + i) * s.padded() + l) = rows[i];
        }
}

// Turns the products of one query with all keys into its attention weights, in place. Weights are
// zero for padding and, if attention is causal, for the tokens after the query.
inline void softmax(const Setting& s, float* row, long query) {
    long visible = s.causal ? query + 1 : s.length;
    float largest = *std::max_element(row, row + visible), scale = s.scale();
    std::fill(row + visible, row + s.padded(), largest);
    vec sums = {};
    for (long l = 0; l < s.padded(); l += LANES) {
        at(row + l) = exponential((at(row + l) - largest) * scale);
        for (long i = std::max(visible - l, 0L); i < LANES; i++) row[l + i] = 0;
        sums += at(row + l);
    }
    float sum = total(sums);
    for (long l = 0; l < s.padded(); l += LANES) at(row + l) *= 1 / sum;
}

// Returns memory that belongs to this thread. It grows when needed and is never freed.
inline float* workspace(long floats) {
    static thread_local std::vector<float> memory;
    if ((long)memory.size() < floats) memory.resize(floats);
    return memory.data();
}

// out[length][head] from the queries, keys and values of one head.
inline void forward_head(const Setting& s, const float* q, float* out) {
    long packed = 3 * s.width, padded = s.padded(), head = s.head();
    const float *k = q + s.width, *v = k + s.width;
    float *keys = workspace(padded * (head + s.length)), *weights = keys + padded * head;
    transpose_head(s, k, packed, keys);
    multiply(s.length, padded, head, q, packed, 1, keys, padded, weights, padded);
    for (long l = 0; l < s.length; l++) softmax(s, weights + l * padded, l);
    multiply(s.length, head, s.length, weights, padded, 1, v, packed, out, s.width);
}

// dq, dk and dv of one head, from the gradient dy of its result.
inline void backward_head(const Setting& s, const float* q, const float* dy, float* dq) {
    long packed = 3 * s.width, padded = s.padded(), head = s.head(), length = s.length;
    const float *k = q + s.width, *v = k + s.width;
    float *dk = dq + s.width, *dv = dk + s.width;
    float* transposed = workspace(padded * (head + 2 * length));
    float *weights = transposed + padded * head, *slopes = weights + padded * length;
    transpose_head(s, k, packed, transposed);
    multiply(length, padded, head, q, packed, 1, transposed, padded, weights, padded);
    transpose_head(s, v, packed, transposed);
    multiply(length, padded, head, dy, s.width, 1, transposed, padded, slopes, padded);
    for (long l = 0; l < length; l++) {
        float *p = weights + l * padded, *d = slopes + l * padded, mean = 0;
        softmax(s, p, l);
        for (long i = 0; i < padded; i++) mean += p[i] * d[i];
        for (long i = 0; i < padded; i++) d[i] = p[i] * (d[i] - mean) * s.scale();
    }
    multiply(length, head, length, weights, 1, padded, dy, s.width, dv, packed);
    multiply(length, head, length, slopes, padded, 1, k, packed, dq, packed);
    multiply(length, head, length, slopes, 1, padded, q, packed, dk, packed);
}

// Computes out[N, L, D] from qkv[N, L, 3D], or dqkv[N, L, 3D] into `out` if dy[N, L, D] is given.
inline void run(const Setting& s, const float* qkv, const float* dy, float* out) {
    long rows = s.length * s.width, head = s.head();
#pragma omp parallel for schedule(static)
    for (long i = 0; i < s.sequences * s.heads; i++) {
        long n = i / s.heads, start = i % s.heads * head;
        const float* q = qkv + 3 * n * rows + start;
        if (dy) backward_head(s, q, dy + n * rows + start, out + 3 * n * rows + start);
        else forward_head(s, q, out + n * rows + start);
    }
}

}  // namespace fast_attention
