// What the kernels do, for Python and for programs of them (program.cpp). Activations are float32. `threads` is how many
// may share a call; what comes out does not depend on it, nor a row on the rows beside it.
#pragma once

#include <cstdint>

// Attention's rows: strides of rows and of heads in numbers, the last dimension dense. `out` is dense.
struct AttentionRows {
    const float* query;  // [rows][heads][head_dim]
    const float* key;    // [rows][kv_heads][head_dim]
    const float* value;  // [rows][kv_heads][value_dim]
    float* out;          // [rows][heads][value_dim]
    int64_t query_strides[2], key_strides[2], value_strides[2];
};

struct AttentionShape {
    int64_t heads, kv_heads, head_dim, value_dim;
    int64_t window;        // 0: none
    float scale, softcap;  // softcap 0: none
};

// How a row's token is drawn. `temperature` 0 takes the best; `top_k` 0, `top_p` 1 and `min_p` 0 cut nothing. `uniform` is
// a random number in [0, 1).
struct Draw {
    float temperature, top_p, min_p;
    int32_t top_k;
    double uniform;
};

extern "C" {

// Writes the new keys and values into a layer's cache, and attends. plan: for each sequence begin, count, start, and
// where in `blocks` its table begins. cache_type: 0 float32, 1 bfloat16.
void me_attention(const AttentionRows* rows, const AttentionShape* shape, void* keys, void* values, const int32_t* plan,
                  int64_t sequences, const int32_t* blocks, int cache_type, int threads);

// y[rows][outputs] = x[rows][inputs] times the packed weights, plus the bias if there is one. bits: 32, 16, 8 or 4.
void me_linear(const float* x, float* y, const uint8_t* weights, const float* scales, const float* bias, int64_t rows,
               int64_t inputs, int64_t outputs, int bits, int threads);

// Packs weights[outputs][inputs]. Types: 0 float32, 1 bfloat16. bits: 32, 16, 8 or 4.
void me_pack(const void* weights, int64_t inputs, int64_t outputs, int bits, int type, uint8_t* to, float* scales,
             int threads);

// The rows of the weights that `indices` name, as numbers again: an embedding that shares its weights with the head.
void me_unpack_rows(const uint8_t* packed, const float* scales, int64_t inputs, int bits, const int64_t* indices,
                    int64_t count, float* to);

// y = x / rms(x) * (weight + offset) for `parts` rows of `dim` side by side in each of the rows, which begin every
// `stride` numbers; y is dense.
void me_rms_norm(const float* x, int64_t stride, const float* weight, float* y, int64_t rows, int64_t parts, int64_t dim,
                 float eps, float offset, int threads);

// y = silu(gate) * up, for rows that begin every `stride` numbers; y is dense.
void me_silu_times(const float* gate, int64_t gate_stride, const float* up, int64_t up_stride, float* y, int64_t rows,
                   int64_t dim, int threads);

// Turns pairs (i, i + dim / 2) of each head by the angle of its row: y = x * cos + (-x2, x1) * sin. x is
// [rows][heads][dim] with strides, y is dense; row r's angles are row `places[r]` of cos and sin, or row r without places.
void me_rotate(const float* x, int64_t row_stride, int64_t head_stride, const float* cos, const float* sin,
               const int32_t* places, float* y, int64_t rows, int64_t heads, int64_t dim, int threads);

// y = a + b, all dense.
void me_add(const float* a, const float* b, float* y, int64_t count, int threads);

// y[i] = x[selected[i]], rows of `dim`.
void me_select(const float* x, const int64_t* selected, float* y, int64_t rows, int64_t dim);

// A token for each row of `size` scores; -1 for a row whose best score is no finite number, or that has one which is none.
void me_sample(const float* scores, int64_t rows, int64_t size, const Draw* draws, int64_t* tokens, int threads);
}
