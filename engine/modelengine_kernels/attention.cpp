// Causal attention over a paged cache, in an order of arithmetic that depends on a query's position alone.
//
// A query's keys are taken in steps of 64 from a multiple of 64 on, within partitions of 512 whose results are merged in
// order. Each query runs through exactly the same operations whether it is alone (decode) or one of many (prefill),
// whatever else is in the batch and however many threads there are. Rows of the same sequence and key head share what
// is loaded, nothing else. Softmax is the online one of Milakov and Gimelshein (2018); splitting long contexts follows
// Flash-Decoding (Dao et al. 2023).
//
// Layouts, per layer: keys [blocks][kv_heads][head_dim][16], values [blocks][kv_heads][16][value_dim], so that a load
// is 16 tokens of one dimension of the keys, and 16 dimensions of one token of the values.

#include <algorithm>
#include <vector>

#include "kernels.h"
#include "pool.h"
#include "vectors.h"

namespace {

constexpr int64_t BLOCK = 16;
constexpr int64_t STEP_BLOCKS = 4;
constexpr int64_t STEP = BLOCK * STEP_BLOCKS;
constexpr int64_t PARTITION = 512;
// Rows that share what is loaded: 24 sums, and what they are made of, fill the registers.
#if defined(__AVX512F__)
constexpr int64_t ROWS = 12;
#else
constexpr int64_t ROWS = 4;
#endif
constexpr int64_t MAX_VALUE_VECTORS = 16;  // value_dim at most 256

using Shape = AttentionShape;

struct Sequence {
    int64_t begin, count, start;  // rows begin..begin+count of the batch stand at positions from start
    const int32_t* blocks;
};

// What one row has gathered so far: the largest score, the sum of the weights, and the weighted values.
struct Partial {
    float largest, sum;
    vec16 values[MAX_VALUE_VECTORS];
};

template <typename KV>
struct Cache {
    KV* keys;
    KV* values;
};

inline vec16 softcapped(vec16 scores, float cap) {
    // tanh(x) = 1 - 2 / (exp(2x) + 1)
    const vec16 e = exp16(scores * splat(2.0f / cap));
    return splat(cap) * (splat(1.0f) - splat(2.0f) / (e + splat(1.0f)));
}

// Vectors that N rows take at a time: four, or two where all sums would not fit.
template <int N>
constexpr int AT_ONCE = N <= 6 ? 4 : 2;

// Scores of a step's keys for N rows, each summed in the order of the dimensions.
template <int N, typename KV>
inline void score(const Shape& shape, const KV* const* keys, const KV* const* values, const float* const* queries,
                  vec16 (*scores)[STEP_BLOCKS]) {
    constexpr int W = AT_ONCE<N>;
    for (int from = 0; from < STEP_BLOCKS; from += W) {
        vec16 sums[N][W] = {};
        for (int64_t d = 0; d < shape.head_dim; ++d) {
            vec16 k[W];
#pragma GCC unroll 4
            for (int b = 0; b < W; ++b) {
                k[b] = load16(keys[from + b] + d * BLOCK);
                // The values come next.
                __builtin_prefetch(values[from + b] + d * BLOCK);
            }
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) {
                const vec16 q = splat(queries[n][d]);
#pragma GCC unroll 4
                for (int b = 0; b < W; ++b) sums[n][b] += q * k[b];
            }
        }
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n)
            for (int b = 0; b < W; ++b) scores[n][from + b] = sums[n][b];
    }
}

// Turns the scores of a row at `position` for the keys from `first` on into weights, relative to the largest so far.
inline void weigh(const Shape& shape, int64_t first, int64_t position, vec16* scores, float* weights, Partial& partial) {
    const int64_t from = shape.window ? std::max<int64_t>(0, position - shape.window + 1) : 0;
    vec16 most = splat(-INFINITY);
    for (int64_t b = 0; b < STEP_BLOCKS; ++b) {
        vec16 s = scores[b] * splat(shape.scale);
        if (shape.softcap > 0) s = softcapped(s, shape.softcap);
        const int64_t at = first + b * BLOCK;
        if (at < from || at + BLOCK - 1 > position) {
            const ivec16 place = iota16() + static_cast<int32_t>(at);
            const ivec16 seen = (place >= static_cast<int32_t>(from)) & (place <= static_cast<int32_t>(position));
            s = seen ? s : splat(-INFINITY);
        }
        scores[b] = s;
        most = max16(most, s);
    }
    const float largest = std::max(partial.largest, highest(most));
    const vec16 base = splat(largest == -INFINITY ? 0.0f : largest);
    vec16 sum = {};
    for (int64_t b = 0; b < STEP_BLOCKS; ++b) {
        const vec16 w = exp16(scores[b] - base);
        sum += w;
        store16(weights + b * BLOCK, w);
    }
    if (largest != partial.largest) {
        const float shrink = exp16(splat(partial.largest) - base)[0];
        partial.sum *= shrink;
        for (int64_t v = 0; v < shape.value_dim / 16; ++v) partial.values[v] *= splat(shrink);
    }
    partial.largest = largest;
    partial.sum += total(sum);
}

// Adds W vectors of the values of a step's tokens, from vector `from` on, in the order of the tokens.
template <int N, int W, typename KV>
inline void add_values(const Shape& shape, const KV* const* values, int64_t tokens, int64_t from,
                       const float (*weights)[STEP], Partial* partials) {
    vec16 sums[N][W];
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n)
        for (int v = 0; v < W; ++v) sums[n][v] = partials[n].values[from + v];
    for (int64_t b = 0; b * BLOCK < tokens; ++b) {
        const KV* at = values[b] + from * 16;
        const int64_t end = std::min(tokens, (b + 1) * BLOCK);
        for (int64_t t = b * BLOCK; t < end; ++t, at += shape.value_dim) {
            vec16 x[W];
#pragma GCC unroll 4
            for (int v = 0; v < W; ++v) x[v] = load16(at + v * 16);
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) {
                const vec16 w = splat(weights[n][t]);
#pragma GCC unroll 4
                for (int v = 0; v < W; ++v) sums[n][v] += w * x[v];
            }
        }
    }
#pragma GCC unroll 16
    for (int n = 0; n < N; ++n)
        for (int v = 0; v < W; ++v) partials[n].values[from + v] = sums[n][v];
}

// One step: up to 64 keys of the sequence from position `first` on, for N rows. A row sees the positions from its
// window's begin up to its own.
template <int N, typename KV>
inline void attend_step(const Shape& shape, const Cache<KV>& cache, const Sequence& sequence, int64_t kv_head,
                        int64_t first, int64_t last, const float* const* queries, const int64_t* positions,
                        Partial* partials) {
    const KV *keys[STEP_BLOCKS], *values[STEP_BLOCKS];
    for (int64_t b = 0; b < STEP_BLOCKS; ++b) {
        // Past the end the last block stands in; its scores are masked.
        const int64_t page = sequence.blocks[std::min(first / BLOCK + b, last / BLOCK)] * shape.kv_heads + kv_head;
        keys[b] = cache.keys + page * shape.head_dim * BLOCK;
        values[b] = cache.values + page * shape.value_dim * BLOCK;
    }
    vec16 scores[N][STEP_BLOCKS];
    alignas(64) float weights[N][STEP];
    score<N>(shape, keys, values, queries, scores);
    for (int n = 0; n < N; ++n) weigh(shape, first, positions[n], scores[n], weights[n], partials[n]);
    const int64_t tokens = std::min(STEP, last - first + 1), vectors = shape.value_dim / 16;
    constexpr int W = AT_ONCE<N>;
    int64_t v = 0;
    for (; v + W <= vectors; v += W) add_values<N, W>(shape, values, tokens, v, weights, partials);
    for (; v < vectors; ++v) add_values<N, 1>(shape, values, tokens, v, weights, partials);
}

template <int N = ROWS, typename KV>
inline void attend_rows(int64_t rows, const Shape& shape, const Cache<KV>& cache, const Sequence& sequence,
                        int64_t kv_head, int64_t first, int64_t last, const float* const* queries,
                        const int64_t* positions, Partial* partials) {
    if (rows == N)
        attend_step<N>(shape, cache, sequence, kv_head, first, last, queries, positions, partials);
    else if constexpr (N > 1)
        attend_rows<N - 1>(rows, shape, cache, sequence, kv_head, first, last, queries, positions, partials);
}

void clear(Partial& partial) {
    partial.largest = -INFINITY;
    partial.sum = 0;
    for (auto& v : partial.values) v = splat(0.0f);
}

void merge(Partial& into, const Partial& other, int64_t vectors) {
    const float largest = std::max(into.largest, other.largest);
    const vec16 base = splat(largest == -INFINITY ? 0.0f : largest);
    const float a = exp16(splat(into.largest) - base)[0], b = exp16(splat(other.largest) - base)[0];
    into.largest = largest;
    into.sum = into.sum * a + other.sum * b;
    for (int64_t v = 0; v < vectors; ++v) into.values[v] = into.values[v] * splat(a) + other.values[v] * splat(b);
}

// Up to ROWS rows of one sequence that share a key head, over one partition of the keys or over all.
struct Task {
    int64_t sequence, kv_head, first_row, rows;
    int64_t partition;  // -1: all
};

template <typename KV>
void attend(const float* query, const int64_t* query_strides, float* out, const Cache<KV>& cache, const Shape& shape,
            const std::vector<Sequence>& sequences, int threads) {
    const int64_t group = shape.heads / shape.kv_heads, vectors = shape.value_dim / 16;
    std::vector<Task> tasks;
    for (size_t s = 0; s < sequences.size(); ++s)
        for (int64_t h = 0; h < shape.kv_heads; ++h)
            // Even shares.
            for (int64_t rows = sequences[s].count * group, shares = (rows + ROWS - 1) / ROWS, i = 0; i < shares; ++i) {
                const int64_t begin = rows * i / shares;
                tasks.push_back({static_cast<int64_t>(s), h, begin, rows * (i + 1) / shares - begin, -1});
            }
    // Row r of a sequence and key head is query r / group, head r % group of the group.
    auto position = [&](const Task& t, int64_t n) { return sequences[t.sequence].start + (t.first_row + n) / group; };
    auto first_of = [&](const Task& t) {
        const int64_t p = position(t, 0);
        return shape.window ? std::max<int64_t>(0, p - shape.window + 1) / STEP * STEP : 0;
    };
    auto run = [&](const Task& t, int64_t partition, const float* const* queries, const int64_t* positions,
                   Partial* partials) {
        const int64_t last = positions[t.rows - 1];
        int64_t first = std::max(first_of(t), partition * PARTITION);
        const int64_t end = std::min(last, (partition + 1) * PARTITION - 1);
        for (int64_t n = 0; n < t.rows; ++n) clear(partials[n]);
        for (; first <= end; first += STEP)
            attend_rows(t.rows, shape, cache, sequences[t.sequence], t.kv_head, first, std::min(end, last), queries,
                        positions, partials);
    };
    auto read = [&](const Task& t, const float** queries, int64_t* positions) {
        static thread_local std::vector<float> space;
        space.resize(ROWS * shape.head_dim);
        for (int64_t n = 0; n < t.rows; ++n) {
            const int64_t row = sequences[t.sequence].begin + (t.first_row + n) / group;
            const int64_t head = t.kv_head * group + (t.first_row + n) % group;
            const float* from = query + row * query_strides[0] + head * query_strides[1];
            for (int64_t d = 0; d < shape.head_dim; ++d) space[n * shape.head_dim + d] = from[d];
            queries[n] = space.data() + n * shape.head_dim;
            positions[n] = position(t, n);
        }
    };
    auto write = [&](const Task& t, Partial* partials) {
        for (int64_t n = 0; n < t.rows; ++n) {
            const int64_t row = sequences[t.sequence].begin + (t.first_row + n) / group;
            const int64_t head = t.kv_head * group + (t.first_row + n) % group;
            float* to = out + (row * shape.heads + head) * shape.value_dim;
            const vec16 sum = splat(partials[n].sum);
            for (int64_t v = 0; v < vectors; ++v) store16(to + v * 16, partials[n].values[v] / sum);
        }
    };

    // Few rows over long contexts, as one answer at a time on many cores: partitions side by side.
    std::vector<Task> pieces;
    if (static_cast<int64_t>(tasks.size()) < 2 * threads)
        for (const Task& t : tasks)
            for (int64_t p = first_of(t) / PARTITION; p <= position(t, t.rows - 1) / PARTITION; ++p)
                pieces.push_back({t.sequence, t.kv_head, t.first_row, t.rows, p});
    if (pieces.size() <= tasks.size()) {
        parallel_for(threads, static_cast<int64_t>(tasks.size()), [&](int64_t i) {
            const Task& t = tasks[i];
            const float* queries[ROWS];
            int64_t positions[ROWS];
            Partial all[ROWS], part[ROWS];
            read(t, queries, positions);
            for (int64_t n = 0; n < t.rows; ++n) clear(all[n]);
            for (int64_t p = first_of(t) / PARTITION; p <= positions[t.rows - 1] / PARTITION; ++p) {
                run(t, p, queries, positions, part);
                for (int64_t n = 0; n < t.rows; ++n) merge(all[n], part[n], vectors);
            }
            write(t, all);
        });
        return;
    }
    std::vector<Partial> parts(pieces.size() * ROWS);
    parallel_for(threads, static_cast<int64_t>(pieces.size()), [&](int64_t i) {
        const float* queries[ROWS];
        int64_t positions[ROWS];
        read(pieces[i], queries, positions);
        run(pieces[i], pieces[i].partition, queries, positions, &parts[i * ROWS]);
    });
    for (size_t i = 0; i < pieces.size();) {
        Partial all[ROWS];
        const Task& t = pieces[i];
        for (int64_t n = 0; n < t.rows; ++n) clear(all[n]);
        size_t end = i;
        for (; end < pieces.size() && pieces[end].sequence == t.sequence && pieces[end].kv_head == t.kv_head &&
               pieces[end].first_row == t.first_row; ++end)
            for (int64_t n = 0; n < t.rows; ++n) merge(all[n], parts[end * ROWS + n], vectors);
        write(t, all);
        i = end;
    }
}

template <typename KV>
void store(const float* key, const int64_t* key_strides, const float* value, const int64_t* value_strides,
           const Cache<KV>& cache, const Shape& shape, const std::vector<Sequence>& sequences, int threads) {
    int64_t rows = 0;
    for (const Sequence& sequence : sequences) rows += sequence.count;
    const bool is_small = rows * shape.kv_heads * shape.head_dim < ALONE;
    parallel_for(is_small ? 1 : threads, shape.kv_heads, [&](int64_t h) {
        for (const Sequence& sequence : sequences)
            for (int64_t i = 0; i < sequence.count; ++i) {
                const int64_t position = sequence.start + i, row = sequence.begin + i, slot = position % BLOCK;
                const int64_t page = sequence.blocks[position / BLOCK] * shape.kv_heads + h;
                const float* k = key + row * key_strides[0] + h * key_strides[1];
                const float* v = value + row * value_strides[0] + h * value_strides[1];
                KV* keys = cache.keys + page * shape.head_dim * BLOCK + slot;
                KV* values = cache.values + (page * BLOCK + slot) * shape.value_dim;
                // In one go first: rounding one by one takes far longer than placing.
                KV narrow[16];
                int64_t d = 0;
                for (; d + 16 <= shape.head_dim; d += 16) {
                    store16(narrow, load16(k + d));
                    for (int64_t i = 0; i < 16; ++i) keys[(d + i) * BLOCK] = narrow[i];
                }
                for (; d < shape.head_dim; ++d) keys[d * BLOCK] = to<KV>(k[d]);
                for (d = 0; d < shape.value_dim; d += 16) store16(values + d, load16(v + d));
            }
    });
}

template <typename KV>
void store_and_attend(const AttentionRows& rows, void* keys, void* values, const Shape& shape,
                      const std::vector<Sequence>& sequences, int threads) {
    const Cache<KV> cache{static_cast<KV*>(keys), static_cast<KV*>(values)};
    store(rows.key, rows.key_strides, rows.value, rows.value_strides, cache, shape, sequences, threads);
    attend(rows.query, rows.query_strides, rows.out, cache, shape, sequences, threads);
}

}  // namespace

extern "C" void me_attention(const AttentionRows* rows, const AttentionShape* shape, void* keys, void* values,
                             const int32_t* plan, int64_t sequences, const int32_t* blocks, int cache_type,
                             int threads) {
    std::vector<Sequence> all;
    all.reserve(sequences);
    for (int64_t s = 0; s < sequences; ++s)
        all.push_back({plan[4 * s], plan[4 * s + 1], plan[4 * s + 2], blocks + plan[4 * s + 3]});
    if (cache_type == 0)
        store_and_attend<float>(*rows, keys, values, *shape, all, threads);
    else
        store_and_attend<bfloat>(*rows, keys, values, *shape, all, threads);
}
