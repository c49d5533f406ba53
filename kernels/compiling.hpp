// Jittor's `do_compile`, but one thread at a time up to the call of the compiler. Before that call
// `TunerManager` chooses a form of the operator, and links new nodes into the graph that all
// threads share, without a lock. The compiler itself takes nearly all the time and runs in
// parallel.
#include <memory>
#include <mutex>

#include "fused_op.h"
#include "op_compiler.h"
#include "ops/op_register.h"
#include "opt/pass_manager.h"
#include "opt/tuner_manager.h"

namespace jittor {

extern jit_op_entry_t (*do_compile_hook)(Op*);

inline jit_op_entry_t compile_in_turn(Op* op) {
    static std::mutex turn;
    std::unique_lock<std::mutex> lock(turn);
    OpCompiler compiler(op);
    for (auto type : op_types) type->post_pass(&compiler);
    string source = compiler.op ? TunerManager(&compiler).tune() : compiler.src;
    op->compile_optimize(source);
    string key = op->get_jit_key(get_jk());
    lock.unlock();
    return compiler.compile(key, source);
}

}  // namespace jittor
