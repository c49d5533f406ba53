// Bicubic crops of one photo, level for level as Pillow makes them: each pass sums whole numbers in
// units of 2^-22 and rounds to 8 bits, across before down, or down first where that leaves less.
// A pass adds lines of bytes, for which the pass across has its picture turned.
// Compiled by Jittor after lanes.hpp.
#include <new>
#include <vector>

namespace resample {

using lanes::LANES;
typedef unsigned char byte;
typedef byte bytes __attribute__((vector_size(16), aligned(1), may_alias));
const int UNIT = 22;   // bits of a share's unit
const int BLOCK = 64;  // bytes that are summed at once

// Bytes [height][width], with room for whole blocks behind each line and 16 lines at a time. Its
// memory only grows.
struct Picture {
    long height = 0, width = 0, stride = 0;
    std::vector<byte> levels;

    void shape(long lines, long bytes) {
        height = lines, width = bytes, stride = (width / BLOCK + 2) * BLOCK;
        size_t room = (height + LANES - 1) / LANES * LANES * stride;
        if (levels.size() < room) levels.resize(room);
    }
    byte* line(long y) { return levels.data() + y * stride; }
    const byte* line(long y) const { return levels.data() + y * stride; }
};

// Keys' cubic with a = -1/2, Pillow's "bicubic".
inline double cubic(double x) {
    x = x < 0 ? -x : x;
    if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

// For each of `to` pixels, which of `from` pixels it is made of, and their shares in units.
struct Shares {
    long most;
    std::vector<long> first, count;
    std::vector<int> share;

    // rounded as in Pillow: without the freedoms that -Ofast takes
    __attribute__((optimize("no-fast-math", "fp-contract=off"))) Shares(long from, long to) {
        double scale = (double)from / to, wide = scale < 1 ? 1 : scale;
        double reach = 2 * wide, narrow = 1 / wide;
        most = (long)ceil(reach) * 2 + 1;
        share.resize(to * most);
        std::vector<double> weights(most);
        for (long i = 0; i < to; i++) {
            double centre = (i + 0.5) * scale, sum = 0;
            long begin = std::max((long)(centre - reach + 0.5), 0L);
            long taps = std::min((long)(centre + reach + 0.5), from) - begin;
            for (long k = 0; k < taps; k++)
                sum += weights[k] = cubic((k + begin - centre + 0.5) * narrow);
            for (long k = 0; k < taps; k++) {
                double part = weights[k] / sum * (1 << UNIT);
                share[i * most + k] = (int)(part < 0 ? part - 0.5 : part + 0.5);
            }
            first.push_back(begin), count.push_back(taps);
        }
    }
};

// out[width] = the sum of `count` lines, `stride` bytes apart, by their shares.
inline void add(const byte* in, long stride, const int* share, long count, long width, byte* out) {
    for (long x = 0; x < width; x += BLOCK) {
        int sum[BLOCK];
        for (int i = 0; i < BLOCK; i++) sum[i] = 1 << (UNIT - 1);
        for (long k = 0; k < count; k++)
            for (int i = 0; i < BLOCK; i++) sum[i] += in[k * stride + x + i] * share[k];
        for (int i = 0; i < BLOCK; i++) out[x + i] = std::min(std::max(sum[i] >> UNIT, 0), 255);
    }
}

// `groups` lines each become one: [from][groups][width] -> [to][groups][width], out of `in` from
// line `top` and byte `left` on.
inline void pass(const Picture& in, long top, long left, const Shares& shares, long groups,
                 long width, Picture& out) {
    out.shape(shares.first.size() * groups, width);
    for (long y = 0; y < out.height; y++) {
        long i = y / groups, first = top + shares.first[i] * groups + y % groups;
        add(in.line(first) + left, in.stride * groups, &shares.share[i * shares.most],
            shares.count[i], width, out.line(y));
    }
}

inline void turn(const Picture& in, Picture& out) {
    out.shape(in.width, in.height);
    for (long y = 0; y < in.height; y += LANES)
        for (long x = 0; x < in.width; x += LANES) {
            bytes lines[LANES];
            for (int i = 0; i < LANES; i++) lines[i] = *(const bytes*)(in.line(y + i) + x);
            lanes::turn<bytes>(lines);
            for (int i = 0; i < LANES; i++) *(bytes*)(out.line(x + i) + y) = lines[i];
        }
}

// One crop out of a photo and its columns -> one[side][3 side], channels side by side. Pillow's own
// rule says which pass comes first.
inline void crop(const Picture& photo, const Picture& columns, const int* box, long side,
                 Picture& one, Picture& other) {
    long left = box[0], top = box[1], wide = box[2] - left, tall = box[3] - top;
    Shares across(wide, side), down(tall, side);
    if (tall > side && tall - side > 2 * (wide - side)) {
        pass(photo, top, 3 * left, down, 1, 3 * wide, one);
        turn(one, other);
        pass(other, 0, 0, across, 3, side, one);
        turn(one, other);
        std::swap(one, other);
    } else {
        pass(columns, 3 * left, top, across, 3, tall, one);
        turn(one, other);
        pass(other, 0, 0, down, 1, 3 * side, one);
    }
}

// pixels[height][width][3] and `count` boxes (left, top, right, bottom, mirrored or not)
// -> out[count][3][side][side], each level as table[3][256] has it. Answers 1 where memory does not
// suffice, else 0.
inline long resize_crops(const byte* pixels, long height, long width, const int* boxes, long count,
                  long side, const float* table, float* out) try {
    Picture photo, columns, one, other;
    photo.shape(height, 3 * width);
    for (long y = 0; y < height; y++)
        std::copy_n(pixels + y * photo.width, photo.width, photo.line(y));
    turn(photo, columns);
    for (const int* box = boxes; box < boxes + 5 * count; box += 5) {
        crop(photo, columns, box, side, one, other);
        for (long c = 0; c < 3; c++)
            for (long y = 0; y < side; y++, out += side)
                for (long x = 0; x < side; x++)
                    out[box[4] ? side - 1 - x : x] = table[256 * c + one.line(y)[3 * x + c]];
    }
    return 0;
} catch (const std::bad_alloc&) {
    return 1;
}

}  // namespace resample
