// The arithmetic of attention: a step of 64 keys for a few query rows. attention.cpp says which rows and which steps.
#pragma once

#include <algorithm>

#include "kernels.h"
#include "vectors.h"

namespace {

constexpr int64_t BLOCK = 16;
constexpr int64_t STEP_BLOCKS = 4;
constexpr int64_t STEP = BLOCK * STEP_BLOCKS;
constexpr int64_t MAX_VALUE_DIM = 256;
// Rows that share what is loaded: their sums, and what they are made of, fill the registers.
constexpr int64_t ROWS = REGISTERS == 32 ? 12 : 6;
// Registers that N rows take at a time: four, or two where all sums would not fit.
template <int N>
constexpr int AT_ONCE = N * 4 + 4 < REGISTERS ? 4 : 2;

// What one row has gathered so far: the largest score, the sum of the weights, and the weighted values.
struct Partial {
    float largest, sum;
    alignas(64) float values[MAX_VALUE_DIM];
};

// The keys and values of a step, block by block.
template <typename T>
struct StepCache {
    const T* keys[STEP_BLOCKS];
    const T* values[STEP_BLOCKS];
};

// Where the next step lies, which is fetched while this one is computed: a step is a few pages here and there, and the
// processor looks no further ahead than a page. A few rows are computed sooner than that: they fetch this step's values
// with its keys, and with its values the next one's keys. `size` is that of a number in the cache.
constexpr int FEW = 2;
struct Ahead {
    const char* keys[STEP_BLOCKS];
    const char* values[STEP_BLOCKS];
    int64_t size;
};

inline vec softcapped(vec scores, float cap) {
    // tanh(x) = 1 - 2 / (exp(2x) + 1)
    return cap * (1.0f - 2.0f / (exponential(scores * (2.0f / cap)) + 1.0f));
}

// Scores of a step's keys for N rows, each summed in the order of the dimensions. queries: [head_dim][N].
template <int N, typename T>
inline void score(const AttentionShape& shape, const StepCache<T>& cache, const Ahead& ahead, const float* queries,
                  float (*scores)[STEP]) {
    constexpr int W = AT_ONCE<N>;
    for (int from = 0; from < STEP; from += W * LANES) {
        vec sums[N][W] = {};
        const float* q = queries;
        const int64_t row = BLOCK * ahead.size;
        for (int64_t d = 0; d < shape.head_dim; ++d, q += N) {
#pragma GCC unroll 4
            for (int w = 0; w < W * LANES / BLOCK; ++w) {
                if (N <= FEW)
                    __builtin_prefetch(cache.values[from / BLOCK + w] + d * BLOCK, 0, 3);
                else
                    __builtin_prefetch(ahead.keys[from / BLOCK + w] + d * row, 0, 2);
            }
            vec k[W];
#pragma GCC unroll 4
            for (int w = 0; w < W; ++w) {
                const int token = from + w * LANES;
                k[w] = load(cache.keys[token / BLOCK] + d * BLOCK + token % BLOCK);
            }
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
                for (int w = 0; w < W; ++w) sums[n][w] += q[n] * k[w];
        }
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
            for (int w = 0; w < W; ++w) store(scores[n] + from + w * LANES, sums[n][w]);
    }
}

// Scales and masks the scores of a row at `position` for the keys from `first` on; returns the largest.
inline float mask(const AttentionShape& shape, int64_t first, int64_t position, float* scores) {
    const int64_t from = shape.window ? std::max<int64_t>(0, position - shape.window + 1) : 0;
    const float scale = shape.scale, softcap = shape.softcap;
    Sixteen most(-INFINITY);
    for (int64_t t = 0; t < STEP; t += LANES) {
        vec s = load(scores + t) * scale;
        if (softcap > 0) s = softcapped(s, softcap);
        const int64_t at = first + t;
        if (at < from || at + LANES - 1 > position) {
            const words place = numbers(Lanes()) + static_cast<int32_t>(at);
            const words seen = (place >= static_cast<int32_t>(from)) & (place <= static_cast<int32_t>(position));
            s = seen ? s : vec{} - INFINITY;
        }
        store(scores + t, s);
        vec& part = most.parts[t % 16 / LANES];
        part = maximum(part, s);
    }
    return most.highest();
}

// Turns the scores of N rows into weights, relative to the largest so far.
template <int N>
inline void weigh(const AttentionShape& shape, int64_t first, const int64_t* positions, float (*scores)[STEP],
                  float (*weights)[STEP], Partial* partials) {
    // Two loops over the rows, so that the long chains of operations of several rows overlap.
    float bases[N];
    alignas(64) float shrink[16] = {};
    for (int n = 0; n < N; ++n) {
        const float largest = std::max(partials[n].largest, mask(shape, first, positions[n], scores[n]));
        bases[n] = largest == -INFINITY ? 0.0f : largest;
        shrink[n] = partials[n].largest - bases[n];
        partials[n].largest = largest;
    }
    store16(shrink, exp16(load16(shrink)));
    for (int n = 0; n < N; ++n) {
        const float base = bases[n];
        Sixteen sum(0.0f);
        for (int64_t t = 0; t < STEP; t += LANES) {
            const vec w = exponential(load(scores[n] + t) - base);
            sum.parts[t % 16 / LANES] += w;
            store(weights[n] + t, w);
        }
        if (shrink[n] != 1.0f) {
            partials[n].sum *= shrink[n];
            float* values = partials[n].values;
            for (int64_t v = 0; v < shape.value_dim; v += LANES) store(values + v, load(values + v) * shrink[n]);
        }
        partials[n].sum += sum.total();
    }
}

// Adds W registers of the values of a step's tokens, from dimension `from` on, in the order of the tokens.
template <int N, int W, typename T>
inline void add_values(const AttentionShape& shape, const T* const* values, const Ahead& ahead, int64_t tokens,
                       int64_t from, const float (*weights)[STEP], Partial* partials) {
    vec sums[N][W];
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
        for (int w = 0; w < W; ++w) sums[n][w] = load(partials[n].values + from + w * LANES);
    for (int64_t b = 0; b * BLOCK < tokens; ++b) {
        const T* at = values[b] + from;
        const char* next = (N <= FEW ? ahead.keys[b] : ahead.values[b]) + from * ahead.size;
        const int64_t end = std::min(tokens, (b + 1) * BLOCK);
        for (int64_t t = b * BLOCK; t < end; ++t, at += shape.value_dim, next += shape.value_dim * ahead.size) {
            __builtin_prefetch(next, 0, 2);
            vec x[W];
#pragma GCC unroll 4
            for (int w = 0; w < W; ++w) x[w] = load(at + w * LANES);
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
                for (int w = 0; w < W; ++w) sums[n][w] += weights[n][t] * x[w];
        }
    }
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 4
        for (int w = 0; w < W; ++w) store(partials[n].values + from + w * LANES, sums[n][w]);
}

// One step for N rows: up to 64 keys from position `first` to `last`. A row sees the positions from its window's begin
// up to its own.
template <int N, typename T>
inline void attend_step(const AttentionShape& shape, const StepCache<T>& cache, const Ahead& ahead, int64_t first,
                        int64_t last, const float* queries, const int64_t* positions, Partial* partials) {
    alignas(64) float scores[N][STEP], weights[N][STEP];
    score<N>(shape, cache, ahead, queries, scores);
    weigh<N>(shape, first, positions, scores, weights, partials);
    const int64_t tokens = std::min(STEP, last - first + 1);
    constexpr int W = AT_ONCE<N>;
    int64_t v = 0;
    for (; v + W * LANES <= shape.value_dim; v += W * LANES)
        add_values<N, W>(shape, cache.values, ahead, tokens, v, weights, partials);
    for (; v < shape.value_dim; v += LANES) add_values<N, 1>(shape, cache.values, ahead, tokens, v, weights, partials);
}

// The same for a number of rows up to ROWS that is known only here.
template <int N = ROWS, typename T>
inline void attend_rows(int64_t rows, const AttentionShape& shape, const StepCache<T>& cache, const Ahead& ahead,
                        int64_t first, int64_t last, const float* queries, const int64_t* positions, Partial* partials) {
    if (rows == N)
        attend_step<N>(shape, cache, ahead, first, last, queries, positions, partials);
    else if constexpr (N > 1)
        attend_rows<N - 1>(rows, shape, cache, ahead, first, last, queries, positions, partials);
}

}  // namespace
