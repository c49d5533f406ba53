// Vectors of sixteen floats, for the CPU operators. They compile to AVX-512, or to whatever the
// processor has. Jittor compiles with -Ofast, so nothing here relies on NaN or on rounding tricks.
#include <math.h>
#include <string.h>

#include <algorithm>

namespace lanes {

enum { LANES = 16 };
typedef float vec __attribute__((vector_size(64), aligned(4), may_alias));
typedef unsigned uvec __attribute__((vector_size(64), aligned(4), may_alias));
typedef int ivec __attribute__((vector_size(64), aligned(4), may_alias));

inline vec& at(float* p) { return *(vec*)p; }
inline const vec& at(const float* p) { return *(const vec*)p; }

// Returns e^x for x <= 0, with a relative error of 2e-7. Below e^-87 the result stays at e^-87.
inline vec exponential(vec x) {
    vec z = x * 1.44269504f;
    z = z < -126.0f ? vec{} - 126.0f : z;
    ivec whole = __builtin_convertvector(z - 0.5f, ivec);  // rounds to the nearest, because z <= 0
    vec f = (z - __builtin_convertvector(whole, vec)) * 0.69314718f;
    vec sum = 1.0f + f * (1 / 7.0f);
    for (float term : {6.0f, 5.0f, 4.0f, 3.0f, 2.0f, 1.0f}) sum = 1.0f + f * sum * (1 / term);
    return sum * (vec)((whole + 127) << 23);
}

inline vec absolute(vec x) { return x < 0.0f ? -x : x; }

// Transposes 16 rows of 16 numbers: four times, it interleaves the first eight rows with the last
// eight. Order: a vector of integers of the same width as the numbers.
template <class Order, class Row>
inline void transpose(Row* rows) {
    const Order left{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}, right = left + 8;
    Row next[LANES];
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shuffle(rows[i], rows[i + 8], left);
            next[2 * i + 1] = __builtin_shuffle(rows[i], rows[i + 8], right);
        }
        std::copy_n(next, 16, rows);
    }
}

inline float total(vec x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

}  // namespace lanes
