// Small steps between the large ones, each in one pass: what costs time there is not arithmetic but starting it.
// A row's sum is taken in sixteen lanes that are added in a fixed order, so it depends on the row alone.

#include <algorithm>

#include "kernels.h"
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

extern "C" void me_rms_norm(const float* x, int64_t stride, const float* weight, float* y, int64_t rows, int64_t parts,
                            int64_t dim, float eps, float offset, int threads) {
    parallel_for(rows * parts * dim > ALONE ? threads : 1, rows, [=](int64_t r) {
        for (int64_t p = 0; p < parts; ++p)
            normalize(x + r * stride + p * dim, weight, y + (r * parts + p) * dim, dim, eps, offset);
    });
}

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

extern "C" void me_rotate(const float* x, int64_t row_stride, int64_t head_stride, const float* cos, const float* sin,
                          const int32_t* places, float* y, int64_t rows, int64_t heads, int64_t dim, int threads) {
    const int64_t half = dim / 2;
    parallel_for(rows * heads * dim > ALONE ? threads : 1, rows, [=](int64_t r) {
        const int64_t place = places ? places[r] : r;
        const float *c = cos + place * dim, *s = sin + place * dim;
        for (int64_t h = 0; h < heads; ++h) {
            const float* from = x + r * row_stride + h * head_stride;
            float* to = y + (r * heads + h) * dim;
            for (int64_t i = 0; i < half; ++i) {
                to[i] = from[i] * c[i] - from[i + half] * s[i];
                to[i + half] = from[i + half] * c[i + half] + from[i] * s[i + half];
            }
        }
    });
}

extern "C" void me_add(const float* a, const float* b, float* y, int64_t count, int threads) {
    constexpr int64_t PIECE = ALONE / 8;
    parallel_for(count > ALONE ? threads : 1, (count + PIECE - 1) / PIECE, [=](int64_t piece) {
        const int64_t end = std::min(count, (piece + 1) * PIECE);
        for (int64_t i = piece * PIECE; i < end; ++i) y[i] = a[i] + b[i];
    });
}

extern "C" void me_select(const float* x, const int64_t* selected, float* y, int64_t rows, int64_t dim) {
    for (int64_t r = 0; r < rows; ++r) std::copy_n(x + selected[r] * dim, dim, y + r * dim);
}
