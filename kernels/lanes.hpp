// Sixteen floats at a time, for the operators of the CPU: compiles to AVX-512, or to what the
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

// e^x for x <= 0, to 2e-7 of its value; below e^-87 it stays there.
inline vec exponential(vec x) {
    vec z = x * 1.44269504f;
    z = z < -126.0f ? vec{} - 126.0f : z;
    ivec whole = __builtin_convertvector(z - 0.5f, ivec);  // z <= 0: this rounds to the nearest
    vec f = (z - __builtin_convertvector(whole, vec)) * 0.69314718f;
    vec sum = 1.0f + f * (1 / 7.0f);
    for (float term : {6.0f, 5.0f, 4.0f, 3.0f, 2.0f, 1.0f}) sum = 1.0f + f * sum * (1 / term);
    return sum * (vec)((whole + 127) << 23);
}

inline vec magnitude(vec x) { return x < 0.0f ? -x : x; }

// 16 lines of 16 numbers become their 16 columns: four times, the upper lines are dealt between the
// lower. Order: a vector of whole numbers of the same width.
template <class Order, class Line>
inline void turn(Line* lines) {
    const Order left{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23}, right = left + 8;
    Line next[LANES];
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = __builtin_shuffle(lines[i], lines[i + 8], left);
            next[2 * i + 1] = __builtin_shuffle(lines[i], lines[i + 8], right);
        }
        std::copy_n(next, 16, lines);
    }
}

inline float total(vec x) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += x[i];
    return sum;
}

}  // namespace lanes
