// What the operators on oneDNN 2.x share: one engine, one stream, and work space.
#include <dnnl.hpp>
#include <omp.h>
#include <stdlib.h>

#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace onednn {

using dnnl::memory;
using tag = memory::format_tag;
using type = memory::data_type;

inline dnnl::engine& engine() {
    static dnnl::engine one(dnnl::engine::kind::cpu, 0);
    return one;
}

inline dnnl::stream& stream() {
    static dnnl::stream one(engine());
    return one;
}

// Returns work space number `part`: each array of an operator has its own number. Operators run one
// after the other, so all shapes share the memory. It grows when needed and is never freed.
inline void* scratch(int part, size_t bytes) {
    static void* memory_of[6] = {};
    static size_t sizes[6] = {};
    if (sizes[part] < bytes) {
        ::free(memory_of[part]);
        sizes[part] = 0;
        memory_of[part] = ::aligned_alloc(64, (bytes + 63) / 64 * 64);
        if (!memory_of[part]) throw std::runtime_error("oneDNN: out of memory for work space");
        sizes[part] = bytes;
    }
    return memory_of[part];
}

inline void copy(memory from, memory to) { dnnl::reorder(from, to).execute(stream(), from, to); }

}  // namespace onednn
