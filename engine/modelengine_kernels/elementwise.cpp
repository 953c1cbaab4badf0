// Small steps between the large ones, each in one pass: what costs time there is not arithmetic but starting it.
// A row's sum is taken in sixteen lanes that are added in a fixed order, so it depends on the row alone.

#include "pool.h"
#include "vectors.h"

namespace {

void normalize(const float* x, const float* weight, float* y, int64_t dim, float eps, float offset) {
    vec16 squares = {};
    const int64_t whole = dim / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) {
        const vec16 v = load16(x + i);
        squares += v * v;
    }
    float sum = total(squares);
    for (int64_t i = whole; i < dim; ++i) sum += x[i] * x[i];
    const float factor = 1.0f / std::sqrt(sum / static_cast<float>(dim) + eps);
    for (int64_t i = 0; i < whole; i += 16)
        store16(y + i, load16(x + i) * splat(factor) * (load16(weight + i) + splat(offset)));
    for (int64_t i = whole; i < dim; ++i) y[i] = x[i] * factor * (weight[i] + offset);
}

}  // namespace

// y = x / rms(x) * (weight + offset) for rows of float32 that begin every `stride` numbers; y is dense.
extern "C" void me_rms_norm(const float* x, int64_t stride, const float* weight, float* y, int64_t rows, int64_t dim,
                            float eps, float offset, int threads) {
    parallel_for(rows * dim > ALONE ? threads : 1, rows,
                 [=](int64_t r) { normalize(x + r * stride, weight, y + r * dim, dim, eps, offset); });
}

// y = silu(gate) * up, for rows that begin every `stride` numbers; y is dense.
extern "C" void me_silu_times(const float* gate, int64_t gate_stride, const float* up, int64_t up_stride, float* y,
                              int64_t rows, int64_t dim, int threads) {
    parallel_for(rows * dim > ALONE / 4 ? threads : 1, rows, [=](int64_t r) {
        const float *g = gate + r * gate_stride, *u = up + r * up_stride;
        float* to = y + r * dim;
        const int64_t whole = dim / 16 * 16;
        for (int64_t i = 0; i < whole; i += 16) {
            const vec16 v = load16(g + i);
            store16(to + i, v / (splat(1.0f) + exp16(-v)) * load16(u + i));
        }
        for (int64_t i = whole; i < dim; ++i) to[i] = g[i] / (1.0f + exp16(splat(-g[i]))[0]) * u[i];
    });
}

// Turns pairs (i, i + dim / 2) of each head by the angle of its row: y = x * cos + (-x2, x1) * sin. x is
// [rows][heads][dim] with strides, cos and sin are [rows][dim], y is dense.
extern "C" void me_rotate(const float* x, int64_t row_stride, int64_t head_stride, const float* cos, const float* sin,
                          float* y, int64_t rows, int64_t heads, int64_t dim, int threads) {
    const int64_t half = dim / 2;
    parallel_for(rows * heads * dim > ALONE ? threads : 1, rows, [=](int64_t r) {
        for (int64_t h = 0; h < heads; ++h) {
            const float *from = x + r * row_stride + h * head_stride, *c = cos + r * dim, *s = sin + r * dim;
            float* to = y + (r * heads + h) * dim;
            for (int64_t i = 0; i < half; ++i) {
                to[i] = from[i] * c[i] - from[i + half] * s[i];
                to[i + half] = from[i + half] * c[i + half] + from[i] * s[i + half];
            }
        }
    });
}
