// The changes that low-rank adapters make, with dropout, forward and backward, fp32. Compiled by
// Jittor after lanes.hpp. An adapter of place p adds factor * B_p (A_p dropout(x)) to the columns
// p * outputs, ... of a layer's result. What dropout keeps follows from (seed of the place, row,
// column) alone, and sums over rows are taken in blocks of a fixed size: no bit depends on threads.
#include <vector>

namespace lora {

using namespace lanes;
enum { BLOCK = 128 };  // rows

struct Setting {
    long rows, inputs, outputs, rank, adapters, columns;  // columns: of the layer's result
    float factor, dropout;
    long offsets[3];
    unsigned seeds[3];
};

// A hash whose every output bit depends on every input bit (shifts and products by turns).
inline uvec mixed(uvec x) {
    x = (x ^ (x >> 16)) * 0x7feb352dU;
    x = (x ^ (x >> 15)) * 0x846ca68bU;
    return x ^ (x >> 16);
}

// What dropout leaves of a row, scaled by 1 / (1 - dropout).
inline void drop(const Setting& s, long adapter, long row, const float* x, float* out) {
    uvec lane{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    float scale = 1 / (1 - s.dropout);
    unsigned limit = (unsigned)(s.dropout * 4294967296.0);
    uvec start = mixed(uvec{} + (unsigned)row + s.seeds[adapter]);
    for (long d = 0; d < s.inputs; d += LANES) {
        uvec drawn = mixed(start ^ mixed(lane + (unsigned)d + 1));
        at(out + d) = drawn >= limit ? at(x + d) * scale : vec{};
    }
}

inline float dot(const float* a, const float* b, long count) {
    vec sums = {};
    for (long i = 0; i < count; i += LANES) sums += at(a + i) * at(b + i);
    return total(sums);
}

inline void add(float* to, const float* from, float weight, long count) {
    for (long i = 0; i < count; i += LANES) at(to + i) += at(from + i) * weight;
}

// B[places][outputs][rank] -> [places][rank][outputs]
inline std::vector<float> turned(const Setting& s, const float* b) {
    std::vector<float> found(s.adapters * s.rank * s.outputs);
    for (long p = 0; p < s.adapters; p++)
        for (long j = 0; j < s.outputs; j++)
            for (long r = 0; r < s.rank; r++)
                found[(p * s.rank + r) * s.outputs + j] = b[(p * s.outputs + j) * s.rank + r];
    return found;
}

// x[rows][inputs], base[rows][columns], A[places][rank][inputs], B[places][outputs][rank]
// -> y[rows][columns], narrow[rows][places][rank] = A dropout(x)
inline void forward(const Setting& s, const float* x, const float* base, const float* a,
                    const float* b, float* y, float* narrow) {
    auto wide = turned(s, b);
#pragma omp parallel
    {
        std::vector<float> kept(s.inputs);
#pragma omp for schedule(static)
        for (long row = 0; row < s.rows; row++) {
            memcpy(y + row * s.columns, base + row * s.columns, s.columns * sizeof(float));
            for (long p = 0; p < s.adapters; p++) {
                drop(s, p, row, x + row * s.inputs, kept.data());
                for (long i = p * s.rank; i < (p + 1) * s.rank; i++) {
                    float value = dot(kept.data(), a + i * s.inputs, s.inputs);
                    narrow[row * s.adapters * s.rank + i] = value;
                    add(y + row * s.columns + s.offsets[p], wide.data() + i * s.outputs,
                        s.factor * value, s.outputs);
                }
            }
        }
    }
}

// dy[rows][columns] -> dx[rows][inputs], dA and dB as A and B
inline void backward(const Setting& s, const float* dy, const float* x, const float* a,
                     const float* b, const float* narrow, float* dx, float* da, float* db) {
    auto wide = turned(s, b);
    long all = s.adapters * s.rank, blocks = (s.rows + BLOCK - 1) / BLOCK;
    long size = all * (s.inputs + s.outputs);
    std::vector<float> partial(blocks * size);
#pragma omp parallel
    {
        std::vector<float> kept(s.inputs), way(s.inputs);
#pragma omp for schedule(static)
        for (long block = 0; block < blocks; block++) {
            float *to_a = partial.data() + block * size, *to_b = to_a + all * s.inputs;
            for (long row = block * BLOCK; row < std::min(s.rows, (block + 1) * BLOCK); row++) {
                float* out = dx + row * s.inputs;
                memset(out, 0, s.inputs * sizeof(float));
                for (long p = 0; p < s.adapters; p++) {
                    const float* slopes = dy + row * s.columns + s.offsets[p];
                    drop(s, p, row, x + row * s.inputs, kept.data());
                    std::fill(way.begin(), way.end(), 0.0f);
                    for (long i = p * s.rank; i < (p + 1) * s.rank; i++) {
                        const float* column = wide.data() + i * s.outputs;
                        float slope = s.factor * dot(slopes, column, s.outputs);
                        add(to_a + i * s.inputs, kept.data(), slope, s.inputs);
                        add(to_b + i * s.outputs, slopes, s.factor * narrow[row * all + i],
                            s.outputs);
                        add(way.data(), a + i * s.inputs, slope, s.inputs);
                    }
                    drop(s, p, row, way.data(), kept.data());
                    add(out, kept.data(), 1, s.inputs);
                }
            }
        }
    }
    for (long block = 1; block < blocks; block++)
        add(partial.data(), partial.data() + block * size, 1, size);
    memcpy(da, partial.data(), all * s.inputs * sizeof(float));
    const float* turned_back = partial.data() + all * s.inputs;
    for (long p = 0; p < s.adapters; p++)
        for (long j = 0; j < s.outputs; j++)
            for (long r = 0; r < s.rank; r++) {
                float slope = turned_back[(p * s.rank + r) * s.outputs + j];
                db[(p * s.outputs + j) * s.rank + r] = slope;
            }
}

}  // namespace lora
