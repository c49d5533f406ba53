// Bicubic crops of one photo, with exactly the pixels of Pillow. Each pass sums integers in units
// of 2^-22 and rounds to 8 bits: first horizontally, or first vertically if that leaves fewer
// pixels. A pass adds rows of bytes, so the picture is transposed for the horizontal pass. Jittor
// compiles it after lanes.hpp.
#include <new>
#include <vector>

namespace resample {

using lanes::LANES;
typedef unsigned char byte;
typedef byte bytes __attribute__((vector_size(16), aligned(1), may_alias));
const int UNIT = 22;   // bits of a weight's unit
const int BLOCK = 64;  // bytes that are summed at once

// Bytes [height][width], with room for whole blocks after each row and for 16 rows at a time. The
// memory grows when needed and never shrinks.
struct Picture {
    long height = 0, width = 0, stride = 0;
    std::vector<byte> levels;

    void resize(long rows, long bytes) {
        height = rows, width = bytes, stride = (width / BLOCK + 2) * BLOCK;
        size_t room = (height + LANES - 1) / LANES * LANES * stride;
        if (levels.size() < room) levels.resize(room);
    }
    byte* row(long y) { return levels.data() + y * stride; }
    const byte* row(long y) const { return levels.data() + y * stride; }
};

// The cubic of Keys (1981) with a = -1/2, Pillow's "bicubic".
inline double cubic(double x) {
    x = x < 0 ? -x : x;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

// The weights that turn `from` pixels into `to` pixels: for each output pixel its first input
// pixel, their number, and their weights in units of 2^-22.
struct Weights {
    long max_count;
    std::vector<long> first, count;
    std::vector<int> units;

    // rounded as in Pillow, so without the optimizations of -Ofast
    __attribute__((optimize("no-fast-math", "fp-contract=off"))) Weights(long from, long to) {
        double scale = (double)from / to, wide = scale < 1 ? 1 : scale;
        double reach = 2 * wide, narrow = 1 / wide;
        max_count = (long)ceil(reach) * 2 + 1;
        units.resize(to * max_count);
        std::vector<double> weights(max_count);
        for (long i = 0; i < to; i++) {
            double centre = (i + 0.5) * scale, sum = 0;
            long begin = std::max((long)(centre - reach + 0.5), 0L);
            long taps = std::min((long)(centre + reach + 0.5), from) - begin;
            for (long k = 0; k < taps; k++)
                sum += weights[k] = cubic((k + begin - centre + 0.5) * narrow);
            for (long k = 0; k < taps; k++) {
                double part = weights[k] / sum * (1 << UNIT);
                units[i * max_count + k] = (int)(part < 0 ? part - 0.5 : part + 0.5);
            }
            first.push_back(begin), count.push_back(taps);
        }
    }
};

// out[width] = the weighted sum of `count` rows that are `stride` bytes apart.
inline void add(const byte* in, long stride, const int* units, long count, long width, byte* out) {
    for (long x = 0; x < width; x += BLOCK) {
        int sum[BLOCK];
        for (int i = 0; i < BLOCK; i++) sum[i] = 1 << (UNIT - 1);
        for (long k = 0; k < count; k++)
            for (int i = 0; i < BLOCK; i++) sum[i] += in[k * stride + x + i] * units[k];
        for (int i = 0; i < BLOCK; i++) out[x + i] = std::min(std::max(sum[i] >> UNIT, 0), 255);
    }
}

// Resizes [from][groups][width] to [to][groups][width], taken from `in` from row `top` and byte
// `left` on.
inline void pass(const Picture& in, long top, long left, const Weights& weights, long groups,
                 long width, Picture& out) {
    out.resize(weights.first.size() * groups, width);
    for (long y = 0; y < out.height; y++) {
        long i = y / groups, first = top + weights.first[i] * groups + y % groups;
        add(in.row(first) + left, in.stride * groups, &weights.units[i * weights.max_count],
            weights.count[i], width, out.row(y));
    }
}

inline void transpose(const Picture& in, Picture& out) {
    out.resize(in.width, in.height);
    for (long y = 0; y < in.height; y += LANES)
        for (long x = 0; x < in.width; x += LANES) {
            bytes rows[LANES];
            for (int i = 0; i < LANES; i++) rows[i] = *(const bytes*)(in.row(y + i) + x);
            lanes::transpose<bytes>(rows);
            for (int i = 0; i < LANES; i++) *(bytes*)(out.row(x + i) + y) = rows[i];
        }
}

// Cuts one crop out of a photo, of which `columns` is the transpose -> result[side][3 side], with
// the channels side by side. `spare` is work space. The rule for the order of passes is Pillow's.
inline void crop(const Picture& photo, const Picture& columns, const int* box, long side,
                 Picture& result, Picture& spare) {
    long left = box[0], top = box[1], wide = box[2] - left, tall = box[3] - top;
    Weights across(wide, side), down(tall, side);
    if (tall > side && tall - side > 2 * (wide - side)) {
        pass(photo, top, 3 * left, down, 1, 3 * wide, result);
        transpose(result, spare);
        pass(spare, 0, 0, across, 3, side, result);
        transpose(result, spare);
        std::swap(result, spare);
    } else {
        pass(columns, 3 * left, top, across, 3, tall, result);
        transpose(result, spare);
        pass(spare, 0, 0, down, 1, 3 * side, result);
    }
}

// pixels[height][width][3] and `count` boxes (left, top, right, bottom, mirrored or not) ->
// out[count][3][side][side], with each level replaced by its value in table[3][256]. Returns 1 if
// there is not enough memory, else 0.
inline long resize_crops(const byte* pixels, long height, long width, const int* boxes, long count,
                  long side, const float* table, float* out) try {
    Picture photo, columns, result, spare;
    photo.resize(height, 3 * width);
    for (long y = 0; y < height; y++)
        std::copy_n(pixels + y * photo.width, photo.width, photo.row(y));
    transpose(photo, columns);
    for (const int* box = boxes; box < boxes + 5 * count; box += 5) {
        crop(photo, columns, box, side, result, spare);
        for (long c = 0; c < 3; c++)
            for (long y = 0; y < side; y++, out += side)
                for (long x = 0; x < side; x++)
                    out[box[4] ? side - 1 - x : x] = table[256 * c + result.row(y)[3 * x + c]];
    }
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

}  // namespace resample
