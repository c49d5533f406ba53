// Linear layers with frozen weights, y = x w (+ bias) (+ residual), and the two layers of an MLP
// with the activation between them. Jittor compiles it after lanes.hpp and onednn.hpp. Arrays come
// and go in fp32. The factors of a product are fp32, or bf16 if `half`, and every sum is fp32.
namespace fast_linear {

using namespace lanes;
using namespace onednn;
typedef unsigned short hvec __attribute__((vector_size(32), aligned(2), may_alias));
typedef unsigned short bf16;

enum { ROWS = 256 };  // rows at a time, so that one layer's output stays in the cache for the next
enum Activation { QUICK_GELU, GELU };
// Numbers of the arrays in the work space.
enum Part { SOURCE, HIDDEN, GATED, PADDED_X, PADDED_Y, PADDED_RESIDUAL };

struct Layer {
    long inputs, outputs;
    bool half;
    type factor() const { return half ? type::bf16 : type::f32; }
    size_t bytes() const { return half ? sizeof(bf16) : sizeof(float); }
};

inline memory::desc matrix(long rows, long columns, type t, tag order = tag::ab) {
    return {{rows, columns}, t, order};
}

// Returns the memory format that oneDNN wants for the weights.
inline memory::desc packed_format(const Layer& s) {
    dnnl::matmul::desc d(matrix(ROWS, s.inputs, s.factor()),
                         matrix(s.inputs, s.outputs, s.factor(), tag::any),
                         matrix(ROWS, s.outputs, type::f32));
    return dnnl::matmul::primitive_desc(d, engine()).weights_desc();
}

// Packs weight[outputs][inputs], or weight[inputs][outputs] if `transposed`, into `room` bytes.
inline void pack(const Layer& s, bool transposed, void* weight, void* out, size_t room) {
    auto wanted = packed_format(s);
    if (wanted.get_size() > room) throw std::runtime_error("linear: too little room to pack");
    auto plain = matrix(s.inputs, s.outputs, type::f32, transposed ? tag::ab : tag::ba);
    copy(memory(plain, engine(), weight), memory(wanted, engine(), out));
    stream().wait();
}

struct Plan {
    dnnl::matmul work;
    memory::desc x, w, bias, y;
    bool by_rows;  // whether a row's bits depend on it alone, as in oneDNN's brgemm on AVX-512
};

// Returns the product's plan, from a cache by shape and threads.
inline const Plan& get_plan(const Layer& s, long rows, bool bias, bool sum) {
    static std::map<std::vector<long>, Plan> plans;
    std::vector<long> key{s.inputs, s.outputs, s.half, rows, bias, sum, omp_get_max_threads()};
    auto entry = plans.find(key);
    if (entry != plans.end()) return entry->second;
    Plan p;
    p.x = matrix(rows, s.inputs, s.factor());
    p.w = packed_format(s);
    p.y = matrix(rows, s.outputs, type::f32);
    if (bias) p.bias = matrix(1, s.outputs, type::f32);
    dnnl::primitive_attr attributes;
    dnnl::post_ops after;
    if (sum) after.append_binary(dnnl::algorithm::binary_add, p.y);
    attributes.set_post_ops(after);
    dnnl::matmul::primitive_desc d({p.x, p.w, p.bias, p.y}, attributes, engine());
    p.work = dnnl::matmul(d);
    p.by_rows = std::string(d.impl_info_str()).find("brg") != std::string::npos;
    return plans.emplace(key, p).first->second;
}

// y[rows][outputs] = x w (+ bias) (+ residual), where x is bf16 if `half`, else fp32.
inline void multiply(const Layer& s, long rows, const void* x, void* w, float* bias,
                     const float* residual, float* y) {
    const Plan& p = get_plan(s, rows, bias, residual);
    if (!p.by_rows && rows < ROWS) {  // oneDNN may sum few rows in another order: pad them
        size_t source = rows * s.inputs * s.bytes(), result = rows * s.outputs * sizeof(float);
        char* all_x = (char*)scratch(PADDED_X, ROWS * s.inputs * s.bytes());
        float* all_y = (float*)scratch(PADDED_Y, ROWS * s.outputs * sizeof(float));
        float* all = (float*)scratch(PADDED_RESIDUAL, ROWS * s.outputs * sizeof(float));
        memset(all_x + source, 0, ROWS * s.inputs * s.bytes() - source);
        memcpy(all_x, x, source);
        if (residual) memcpy(all, residual, result);
        multiply(s, ROWS, all_x, w, bias, residual ? all : nullptr, all_y);
        memcpy(y, all_y, result);
        return;
    }
    auto on = [](const memory::desc& d, const void* at) {
        return memory(d, engine(), const_cast<void*>(at));
    };
    std::unordered_map<int, memory> all{{DNNL_ARG_SRC, on(p.x, x)}, {DNNL_ARG_WEIGHTS, on(p.w, w)},
                                        {DNNL_ARG_DST, on(p.y, y)}};
    if (bias) all.insert({DNNL_ARG_BIAS, on(p.bias, bias)});
    if (residual)
        all.insert({DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, on(p.y, residual)});
    p.work.execute(stream(), all);
    stream().wait();
}

// Rounds to the nearest bf16, ties to even.
inline hvec round_to_bf16(vec x) {
    uvec bits = (uvec)x;
    return __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, hvec);
}

// Calls f(i) for i = 0, 16, 32, ... below `count`, a multiple of 16, on all threads.
template <class F>
inline void for_each_lane(long count, F f) {
#pragma omp parallel for schedule(static)
    for (long i = 0; i < count; i += LANES) f(i);
}

// Returns x as the product wants it: itself, or a copy in bf16.
inline const void* to_factor(const Layer& s, const float* x, long count, Part part) {
    if (!s.half) return x;
    bf16* to = (bf16*)scratch(part, count * sizeof(bf16));
    for_each_lane(count, [=](long i) { *(hvec*)(to + i) = round_to_bf16(at(x + i)); });
    return to;
}

inline vec sigmoid(vec x) {
    vec e = exponential(-absolute(x)), s = 1.0f / (1.0f + e);
    return x < 0.0f ? e * s : s;
}

// The normal distribution function to 1e-7: Abramowitz and Stegun 7.1.26. `tail` is e^(-x^2 / 2).
inline vec normal_cdf(vec x, vec tail) {
    vec t = 1.0f / (1.0f + 0.3275911f * 0.70710678f * absolute(x));
    vec p = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f
                 + t * 1.061405429f)))) * tail * 0.5f;
    return x < 0.0f ? p : 1.0f - p;
}

inline vec activate(Activation kind, vec x) {
    if (kind == QUICK_GELU) return x * sigmoid(1.702f * x);
    return x * normal_cdf(x, exponential(x * x * -0.5f));
}

// The derivative of the activation.
inline vec derivative(Activation kind, vec x) {
    if (kind == QUICK_GELU) {
        vec s = sigmoid(1.702f * x);
        return s * (1.0f + 1.702f * x * sigmoid(-1.702f * x));  // 1 - s would lose its digits
    }
    vec tail = exponential(x * x * -0.5f);
    return normal_cdf(x, tail) + x * tail * 0.39894228f;
}

// x[rows][inputs] and packed w -> y[rows][outputs]; bias and residual may be null.
inline void linear(const Layer& s, long rows, const float* x, void* w, float* bias,
                   const float* residual, float* y) {
    for (long r = 0; r < rows; r += ROWS) {
        long count = std::min<long>(ROWS, rows - r), first = r * s.outputs;
        auto source = to_factor(s, x + r * s.inputs, count * s.inputs, SOURCE);
        multiply(s, count, source, w, bias, residual ? residual + first : nullptr, y + first);
    }
}

struct Mlp {
    Layer wide, narrow;  // width -> 4 width -> width
    Activation kind;
};

// y = residual + narrow(activation(wide(x))). The input of the activation goes to
// `activation_input` unless that is null.
inline void mlp(const Mlp& s, long rows, const float* x, const float* residual, void* w1, float* b1,
                void* w2, float* b2, float* y, float* activation_input) {
    long width = s.wide.inputs, hidden = s.wide.outputs;
    for (long r = 0; r < rows; r += ROWS) {
        long count = std::min<long>(ROWS, rows - r), size = count * hidden;
        float* u = activation_input ? activation_input + r * hidden
                        : (float*)scratch(HIDDEN, ROWS * hidden * sizeof(float));
        auto source = to_factor(s.wide, x + r * width, count * width, SOURCE);
        multiply(s.wide, count, source, w1, b1, nullptr, u);
        void* g = scratch(GATED, ROWS * hidden * s.narrow.bytes());
        Activation kind = s.kind;
        if (s.narrow.half)
            for_each_lane(size, [=](long i) {
                *(hvec*)((bf16*)g + i) = round_to_bf16(activate(kind, at(u + i)));
            });
        else
            for_each_lane(size, [=](long i) { at((float*)g + i) = activate(kind, at(u + i)); });
        multiply(s.narrow, count, g, w2, b2, residual + r * width, y + r * width);
    }
}

// Computes dx from dy and the input of the activation. w2 and w1 are packed for the backward pass.
inline void mlp_backward(const Mlp& s, long rows, const float* dy, const float* activation_input,
                         void* w2, void* w1, float* dx) {
    long width = s.wide.inputs, hidden = s.wide.outputs;
    Layer back2{width, hidden, s.narrow.half}, back1{hidden, width, s.wide.half};
    for (long r = 0; r < rows; r += ROWS) {
        long count = std::min<long>(ROWS, rows - r), size = count * hidden;
        const float* u = activation_input + r * hidden;
        float* du = (float*)scratch(HIDDEN, ROWS * hidden * sizeof(float));
        auto source = to_factor(back2, dy + r * width, count * width, SOURCE);
        multiply(back2, count, source, w2, nullptr, nullptr, du);
        Activation kind = s.kind;
        for_each_lane(size, [=](long i) { at(du + i) *= derivative(kind, at(u + i)); });
        auto slopes = to_factor(back1, du, size, GATED);
        multiply(back1, count, slopes, w1, nullptr, nullptr, dx + r * width);
    }
}

enum Task { PACK, LINEAR, MLP, MLP_BACKWARD };

struct Call {
    Task task;
    Layer layer;  // of an MLP the wide one
    Activation kind;
    bool transposed, has_bias, has_residual;
    long numbers, room;  // in the first input and in the output
};

// The inputs of PACK: weight. LINEAR: x, w, bias, residual. MLP: x, residual, w1, bias1, w2, bias2.
// MLP_BACKWARD: dy, activation_input, w2, w1. The output `activation_input` of MLP may be null.
inline void run(const Call& c, float* const* in, float* out, float* activation_input) {
    const Layer& s = c.layer;
    Mlp m{s, {s.outputs, s.inputs, s.half}, c.kind};
    long rows = c.numbers / s.inputs;
    if (c.task == PACK) pack(s, c.transposed, in[0], out, c.room * sizeof(float));
    if (c.task == LINEAR)
        linear(s, rows, in[0], in[1], c.has_bias ? in[2] : nullptr,
               c.has_residual ? in[3] : nullptr, out);
    if (c.task == MLP)
        mlp(m, rows, in[0], in[1], in[2], in[3], in[4], in[5], out, activation_input);
    if (c.task == MLP_BACKWARD) mlp_backward(m, rows, in[0], in[1], in[2], in[3], out);
}

}  // namespace fast_linear
