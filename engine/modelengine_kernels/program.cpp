// A model's whole pass as one list of kernel calls: what was recorded once (recording.py) runs without Python between.
//
// Every intermediate result is a buffer with the same numbers of columns in each row, so where things lie follows from the
// number of rows alone: tokens of the step, or those of them whose scores are wanted.

#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include "kernels.h"

namespace {

constexpr int MAX_INPUTS = 3;

// As in tape.py.
enum Operation : int64_t { EMBED, RMS_NORM, LINEAR, ROTATE, ATTEND, SILU_TIMES, ADD, SELECT };

// Columns of a buffer: `stride` numbers lie between the begins of two parts (heads) of one row.
struct Columns {
    int64_t buffer, offset, stride;
};

struct Instruction {
    int64_t operation;
    Columns inputs[MAX_INPUTS];
    int64_t output;          // a buffer
    const void* weights[3];  // and scales, and bias; or none
    int64_t sizes[6];
    float numbers[2];
};

struct Buffer {
    int64_t columns;
    int64_t is_selected;  // whether its rows are the selected ones
    int64_t start;        // in columns, a multiple of 16, so that each begins on a line of the cache
};

struct Program {
    std::vector<Instruction> instructions;
    std::vector<Buffer> buffers;
    int64_t columns;  // of all, where those of different times may share a place; a multiple of 16
    float* space = nullptr;
    int64_t room = 0;  // rows

    ~Program() { std::free(space); }

    void reserve(int64_t rows) {
        if (rows <= room) return;
        std::free(space);
        room = 0;
        space = static_cast<float*>(std::aligned_alloc(64, rows * columns * sizeof(float)));
        if (!space) throw std::bad_alloc();
        room = rows;
    }
};

// One pass: what it is over, and where its results go.
struct Pass {
    const int64_t* tokens;
    const int32_t* positions;
    int64_t rows;
    const int64_t* selected;
    int64_t selected_rows;
    const int32_t* plan;  // see me_attention
    int64_t sequences;
    const int32_t* blocks;
    void* const* caches;  // keys and values of each layer
    int64_t cache_type;
    const float* const* tables;  // by position
    float* out;                  // what the last instruction gives
    int64_t threads;
};

class Run {
public:
    Run(Program& program, const Pass& pass) : program_(program), pass_(pass), threads_(static_cast<int>(pass.threads)) {}

    void all() {
        const size_t last = program_.instructions.size() - 1;
        for (size_t i = 0; i <= last; ++i) {
            const Instruction& instruction = program_.instructions[i];
            step(instruction, i == last ? pass_.out : at({instruction.output, 0, 0}));
        }
    }

private:
    float* at(const Columns& columns) const {
        const Buffer& buffer = program_.buffers[columns.buffer];
        return program_.space + buffer.start * program_.room + columns.offset;
    }

    int64_t width(const Columns& columns) const { return program_.buffers[columns.buffer].columns; }

    void step(const Instruction& i, float* out) const {
        const bool is_selected = program_.buffers[i.output].is_selected;
        const int64_t rows = is_selected ? pass_.selected_rows : pass_.rows;
        const Columns* in = i.inputs;
        const int64_t* sizes = i.sizes;
        const auto* weights = static_cast<const uint8_t*>(i.weights[0]);
        const auto *scales = static_cast<const float*>(i.weights[1]), *bias = static_cast<const float*>(i.weights[2]);
        switch (static_cast<Operation>(i.operation)) {
            case EMBED:
                return me_unpack_rows(weights, scales, sizes[0], static_cast<int>(sizes[1]), pass_.tokens, rows, out);
            case RMS_NORM:
                return me_rms_norm(at(in[0]), width(in[0]), static_cast<const float*>(i.weights[0]), out, rows, sizes[0],
                                   sizes[1], i.numbers[0], i.numbers[1], threads_);
            case LINEAR:
                return me_linear(at(in[0]), out, weights, scales, bias, rows, sizes[0], sizes[1],
                                 static_cast<int>(sizes[2]), threads_);
            case ROTATE:
                return me_rotate(at(in[0]), width(in[0]), in[0].stride, pass_.tables[sizes[2]], pass_.tables[sizes[3]],
                                 pass_.positions, out, rows, sizes[0], sizes[1], threads_);
            case ATTEND: {
                const AttentionRows all{at(in[0]), at(in[1]), at(in[2]), out, {width(in[0]), in[0].stride},
                                        {width(in[1]), in[1].stride}, {width(in[2]), in[2].stride}};
                const AttentionShape shape{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], i.numbers[0], i.numbers[1]};
                return me_attention(&all, &shape, pass_.caches[2 * sizes[5]], pass_.caches[2 * sizes[5] + 1], pass_.plan,
                                    pass_.sequences, pass_.blocks, static_cast<int>(pass_.cache_type), threads_);
            }
            case SILU_TIMES:
                return me_silu_times(at(in[0]), width(in[0]), at(in[1]), width(in[1]), out, rows, sizes[0], threads_);
            case ADD: return me_add(at(in[0]), at(in[1]), out, rows * sizes[0], threads_);
            case SELECT: return me_select(at(in[0]), pass_.selected, out, rows, sizes[0]);
        }
    }

    Program& program_;
    const Pass& pass_;
    const int threads_;
};

}  // namespace

extern "C" Program* me_program_new(const Instruction* instructions, int64_t count, const Buffer* buffers,
                                   int64_t buffer_count, int64_t columns) {
    auto program = std::make_unique<Program>();
    program->instructions.assign(instructions, instructions + count);
    program->buffers.assign(buffers, buffers + buffer_count);
    program->columns = columns;
    return program.release();
}

extern "C" void me_program_free(Program* program) { delete program; }

// 0, or 1 when there is no memory for so many rows.
extern "C" int me_program_run(Program* program, const Pass* pass) {
    try {
        program->reserve(pass->rows);
        Run(*program, *pass).all();
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}
