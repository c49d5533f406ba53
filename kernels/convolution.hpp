// Convolutions by oneDNN 2.x in its own memory formats. Jittor compiles it as the header of one
// operator (kernels/convolution.py), after onednn.hpp, and the operator calls `run`. Tensors come
// and go as plain fp32 arrays, nchw and oihw. Inside they are fp32 or bf16, and every sum is fp32.
namespace fast_convolution {

using dnnl::algorithm;
using namespace onednn;

enum Task { FORWARD, PACK, TO_INPUT, TO_WEIGHT };

struct Setting {
    memory::dims x, w, y;  // [N, C, H, W], [O, C / G, K, K], [N, O, H', W']
    memory::dims stride, dilation, padding;  // dilation as oneDNN counts it: 0 is none
    memory::dim groups;
    bool half;  // whether the factors are bf16
    memory::dims key(Task task) const {
        memory::dims all{task, groups, half, omp_get_max_threads()};
        for (auto* part : {&x, &w, &stride, &dilation, &padding})
            all.insert(all.end(), part->begin(), part->end());
        return all;
    }
};

struct Plan {
    dnnl::primitive work;
    memory::desc in, weights, out;  // the formats of x, w and y, or their gradients, in `work`
    memory::desc packed;            // the format of y's gradient between PACK and its two readers
};

// One request to oneDNN: the memory formats of x, w and y, and the algorithm.
struct Request {
    memory::desc x, w, y;
    algorithm method;
};

using Forward = dnnl::convolution_forward;
using ToInput = dnnl::convolution_backward_data;
using ToWeight = dnnl::convolution_backward_weights;

// Returns whether Winograd's F(4x4, 3x3) pays: it saves up to three quarters of the products if
// there are many full tiles. oneDNN has it in fp32 and for AVX-512 only.
inline bool use_winograd(const Setting& s) {
    auto tiles = (s.y[2] + 3) / 4 * ((s.y[3] + 3) / 4);
    return !s.half && s.groups == 1 && s.w[2] == 3 && s.w[3] == 3 && s.stride[0] == 1
        && s.stride[1] == 1 && s.dilation[0] == 0 && s.dilation[1] == 0 && s.x[0] >= 8
        && s.x[1] >= 64 && s.w[0] >= 64 && s.x[0] * tiles >= 128
        && s.y[2] * s.y[3] >= 8 * tiles;
}

// Returns the first of oneDNN's implementations that is neither its plain matrix product nor its
// reference code. If there is no other, it returns the first of those.
template <class Make>
auto choose(const Setting& s, type tx, type tw, type ty, Make make) {
    using Description = decltype(make(Request{}));
    memory::dims grouped{s.groups, s.w[0] / s.groups, s.w[1], s.w[2], s.w[3]};
    std::vector<std::pair<algorithm, tag>> attempts;
    if (use_winograd(s)) attempts.push_back({algorithm::convolution_winograd, tag::any});
    attempts.push_back({algorithm::convolution_direct, tag::any});
    attempts.push_back({algorithm::convolution_direct, tag::nhwc});
    Description fallback;
    for (auto& [method, format] : attempts) {
        Request p{{s.x, tx, format}, {s.groups > 1 ? grouped : s.w, tw, tag::any},
                  {s.y, ty, format}, method};
        try {
            Description candidate = make(p);
            std::string name = candidate.impl_info_str();
            if (name.find("gemm") == std::string::npos && name.find("ref") == std::string::npos)
                return candidate;
            if (!fallback) fallback = candidate;
        } catch (const dnnl::error&) {  // oneDNN does not have this combination
        }
    }
    if (!fallback) throw std::runtime_error("convolution: oneDNN cannot compute this shape");
    return fallback;
}

inline Forward::primitive_desc describe_forward(const Setting& s, const Request& p) {
    return {{dnnl::prop_kind::forward_training, p.method, p.x, p.w, p.y, s.stride, s.dilation,
             s.padding, s.padding}, engine()};
}

// Returns the forward description that oneDNN wants as a hint for the backward ones.
inline Forward::primitive_desc hint(const Setting& s, Request p) {
    auto inner = s.half ? type::bf16 : type::f32;
    p.x.data.data_type = p.w.data.data_type = dnnl::memory::convert_to_c(inner);
    p.y.data.data_type = dnnl_f32;
    return describe_forward(s, p);
}

inline Plan make_plan(Task task, const Setting& s) {
    auto inner = s.half ? type::bf16 : type::f32;
    Plan plan;
    if (task == FORWARD) {
        auto d = choose(s, inner, inner, type::f32, [&](const Request& p) {
            return describe_forward(s, p);
        });
        return {Forward(d), d.src_desc(), d.weights_desc(), d.dst_desc(), {}};
    }
    auto to_weight = choose(s, inner, type::f32, inner, [&](const Request& p) {
        return ToWeight::primitive_desc({p.method, p.x, p.w, p.y, s.stride, s.dilation, s.padding,
                                         s.padding}, engine(), hint(s, p));
    });
    // The format that the weights' gradient wants, if it fits into the array that Jittor allocated.
    memory::desc packed = to_weight.diff_dst_desc(), plain(s.y, inner, tag::nchw);
    size_t room = s.y[0] * ((s.y[1] + 15) / 16 * 16) * s.y[2] * s.y[3] * (s.half ? 2 : 4);
    if (packed.get_size() > room) packed = plain;
    if (task == TO_WEIGHT)
        return {ToWeight(to_weight), to_weight.src_desc(), to_weight.diff_weights_desc(),
                to_weight.diff_dst_desc(), packed};
    if (task == PACK) return {{}, {}, {}, {}, packed};
    auto d = choose(s, type::f32, inner, inner, [&](const Request& p) {
        return ToInput::primitive_desc({p.method, p.x, p.w, p.y, s.stride, s.dilation, s.padding,
                                        s.padding}, engine(), hint(s, p));
    });
    return {ToInput(d), d.diff_src_desc(), d.weights_desc(), d.diff_dst_desc(), packed};
}

// Returns the plan of a task, from a cache by shapes and threads.
inline const Plan& get_plan(Task task, const Setting& s) {
    static std::map<memory::dims, Plan> plans;
    auto key = s.key(task);
    auto entry = plans.find(key);
    if (entry == plans.end()) entry = plans.emplace(key, make_plan(task, s)).first;
    return entry->second;
}

// Returns the array in the format `wanted`: itself, or a copy in the work space.
inline memory to_format(const memory& array, const memory::desc& wanted, int part) {
    if (array.get_desc() == wanted) return array;
    memory copied(wanted, engine(), scratch(part, wanted.get_size()));
    copy(array, copied);
    return copied;
}

// Returns where to write a result for `array`: there if the format fits, else the work space.
inline memory output_for(const memory& array, const memory::desc& wanted, int part) {
    if (array.get_desc() == wanted) return array;
    return memory(wanted, engine(), scratch(part, wanted.get_size()));
}

// FORWARD: a = x, b = w, out = y.  PACK: a = dy, out = packed dy.
// TO_INPUT: a = packed dy, b = w, out = dx.  TO_WEIGHT: a = packed dy, b = x, out = dw.
inline void run(Task task, const Setting& s, void* a, void* b, void* out) {
    const Plan& plan = get_plan(task, s);
    memory::dims grouped{s.groups, s.w[0] / s.groups, s.w[1], s.w[2], s.w[3]};
    memory::desc x_plain(s.x, type::f32, tag::nchw), y_plain(s.y, type::f32, tag::nchw);
    memory::desc w_plain = s.groups > 1 ? memory::desc(grouped, type::f32, tag::goihw)
                                        : memory::desc(s.w, type::f32, tag::oihw);
    auto at = [](const memory::desc& d, void* data) { return memory(d, engine(), data); };
    if (task == FORWARD) {
        auto x = to_format(at(x_plain, a), plan.in, 0);
        auto w = to_format(at(w_plain, b), plan.weights, 1);
        auto y = at(y_plain, out), inner = output_for(y, plan.out, 2);
        plan.work.execute(stream(), {{DNNL_ARG_SRC, x}, {DNNL_ARG_WEIGHTS, w},
                                     {DNNL_ARG_DST, inner}});
        if (plan.out != y_plain) copy(inner, y);
    } else if (task == PACK) {
        copy(at(y_plain, a), at(plan.packed, out));
    } else if (task == TO_INPUT) {
        auto dy = to_format(at(plan.packed, a), plan.out, 0);
        auto w = to_format(at(w_plain, b), plan.weights, 1);
        auto dx = at(x_plain, out), inner = output_for(dx, plan.in, 2);
        plan.work.execute(stream(), {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_WEIGHTS, w},
                                     {DNNL_ARG_DIFF_SRC, inner}});
        if (plan.in != x_plain) copy(inner, dx);
    } else {
        auto dy = to_format(at(plan.packed, a), plan.out, 0);
        auto x = to_format(at(x_plain, b), plan.in, 1);
        auto dw = at(w_plain, out), inner = output_for(dw, plan.weights, 2);
        plan.work.execute(stream(), {{DNNL_ARG_DIFF_DST, dy}, {DNNL_ARG_SRC, x},
                                     {DNNL_ARG_DIFF_WEIGHTS, inner}});
        if (plan.weights != w_plain) copy(inner, dw);
    }
    stream().wait();
}

}  // namespace fast_convolution
