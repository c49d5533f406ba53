// Self-attention of several heads on the CPU, forward and backward, fp32. Compiled by Jittor as the
// header of one operator (kernels/attention.py), after lanes.hpp. Each head of each sequence is
// computed by one thread, in an order that depends on its own length alone: neither the number of
// threads nor the other sequences change a bit.
#include <vector>

namespace fast_attention {

using namespace lanes;
// 6 x 4 registers of sums fill AVX-512's 32, 6 x 2 the 16 of others. A vector wider than the
// processor's registers would lie in memory: a tenth of the speed.
#if defined(__AVX512F__)
enum { REGISTER = 16, ROWS = 6, WIDE = 4 };
#elif defined(__AVX__)
enum { REGISTER = 8, ROWS = 6, WIDE = 2 };
#else
enum { REGISTER = 4, ROWS = 6, WIDE = 2 };
#endif
typedef float reg __attribute__((vector_size(4 * REGISTER), aligned(4), may_alias));

// c[R][REGISTER V] = sum over k of a[r * row + k * step] * b[k * ldb + ...]
template <int R, int V>
inline void tile(long depth, const float* a, long row, long step, const float* b, long ldb,
                 float* c, long ldc) {
    reg sums[R][V] = {};
    for (long k = 0; k < depth; k++, a += step, b += ldb) {
        reg line[V];
        for (int v = 0; v < V; v++) line[v] = *(const reg*)(b + v * REGISTER);
        for (int r = 0; r < R; r++)
            for (int v = 0; v < V; v++) sums[r][v] += a[r * row] * line[v];
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) *(reg*)(c + r * ldc + v * REGISTER) = sums[r][v];
}

template <int V>
inline void band(long rows, long depth, const float* a, long row, long step, const float* b,
                 long ldb, float* c, long ldc) {
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
        band<WIDE>(rows, depth, a, row, step, b, ldb, c, ldc);
    if (columns == 3 * REGISTER) band<3>(rows, depth, a, row, step, b, ldb, c, ldc);
    if (columns == 2 * REGISTER) band<2>(rows, depth, a, row, step, b, ldb, c, ldc);
    if (columns == REGISTER) band<1>(rows, depth, a, row, step, b, ldb, c, ldc);
}

struct Setting {
    long sequences, length, width, heads, causal;
    long head() const { return width / heads; }
    long padded() const { return (length + LANES - 1) / LANES * LANES; }
    float scale() const { return 1 / sqrtf(head()); }
};

// from[length][head], rows `stride` apart -> to[head][padded], zeros at the end.
inline void transpose(const Setting& s, const float* from, long stride, float* to) {
    for (long l = 0; l < s.padded(); l += LANES)
        for (long d = 0; d < s.head(); d += LANES) {
            vec lines[LANES];
            for (int i = 0; i < LANES; i++)
                lines[i] = l + i < s.length ? at(from + (l + i) * stride + d) : vec{};
            turn<ivec>(lines);
            for (int i = 0; i < LANES; i++) at(to + (d + i) * s.padded() + l) = lines[i];
        }
}

// Products of one query with all keys -> its weights, in place; zero for padding and, where
// attention is causal, for the tokens after it.
inline void softmax(const Setting& s, float* row, long query) {
    long seen = s.causal ? query + 1 : s.length;
    float largest = *std::max_element(row, row + seen), scale = s.scale();
    std::fill(row + seen, row + s.padded(), largest);
    vec sums = {};
    for (long l = 0; l < s.padded(); l += LANES) {
        at(row + l) = exponential((at(row + l) - largest) * scale);
        for (long i = std::max(seen - l, 0L); i < LANES; i++) row[l + i] = 0;
        sums += at(row + l);
    }
    float sum = total(sums);
    for (long l = 0; l < s.padded(); l += LANES) at(row + l) *= 1 / sum;
}

// One piece of a thread's own memory; it grows and stays.
inline float* workspace(long floats) {
    static thread_local std::vector<float> held;
    if ((long)held.size() < floats) held.resize(floats);
    return held.data();
}

inline void forward_head(const Setting& s, const float* q, float* out) {
    long packed = 3 * s.width, padded = s.padded(), head = s.head();
    const float *k = q + s.width, *v = k + s.width;
    float *keys = workspace(padded * (head + s.length)), *weights = keys + padded * head;
    transpose(s, k, packed, keys);
    multiply(s.length, padded, head, q, packed, 1, keys, padded, weights, padded);
    for (long l = 0; l < s.length; l++) softmax(s, weights + l * padded, l);
    multiply(s.length, head, s.length, weights, padded, 1, v, packed, out, s.width);
}

// dq, dk, dv of one head from the gradient dy of its result.
inline void backward_head(const Setting& s, const float* q, const float* dy, float* dq) {
    long packed = 3 * s.width, padded = s.padded(), head = s.head(), length = s.length;
    const float *k = q + s.width, *v = k + s.width;
    float *dk = dq + s.width, *dv = dk + s.width;
    float *turned = workspace(padded * (head + 2 * length)), *weights = turned + padded * head;
    float* slopes = weights + padded * length;
    transpose(s, k, packed, turned);
    multiply(length, padded, head, q, packed, 1, turned, padded, weights, padded);
    transpose(s, v, packed, turned);
    multiply(length, padded, head, dy, s.width, 1, turned, padded, slopes, padded);
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

// qkv[N, L, 3D] -> out[N, L, D]; or with dy[N, L, D], dqkv[N, L, 3D].
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
