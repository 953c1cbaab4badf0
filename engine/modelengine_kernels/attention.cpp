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

#include "attention_step.h"
#include "pool.h"

namespace {

constexpr int64_t PARTITION = 512;
// A task takes up to so many tiles, of up to ROWS rows each, through every step.
constexpr int64_t TILES = 16;
constexpr int64_t TASK_ROWS = TILES * ROWS;

using Shape = AttentionShape;

struct Sequence {
    int64_t begin, count, start;  // rows begin..begin+count of the batch stand at positions from start
    const int32_t* blocks;
};

template <typename KV>
struct Cache {
    KV* keys;
    KV* values;
};

void clear(Partial& partial, int64_t value_dim) {
    partial.largest = -INFINITY;
    partial.sum = 0;
    std::fill_n(partial.values, value_dim, 0.0f);
}

void merge(Partial& into, const Partial& other, int64_t value_dim) {
    const float largest = std::max(into.largest, other.largest);
    const vec16 base = splat(largest == -INFINITY ? 0.0f : largest);
    const float a = exp16(splat(into.largest) - base)[0], b = exp16(splat(other.largest) - base)[0];
    into.largest = largest;
    into.sum = into.sum * a + other.sum * b;
    for (int64_t v = 0; v < value_dim; v += LANES)
        store(into.values + v, load(into.values + v) * a + load(other.values + v) * b);
}

// Rows of one sequence that share a key head, over one partition of the keys or over all.
struct Task {
    int64_t sequence, kv_head, first_row, rows;
    int64_t partition;  // -1: all

    int64_t tiles() const { return (rows + ROWS - 1) / ROWS; }
    int64_t tile_begin(int64_t i) const { return rows * i / tiles(); }
};

template <typename KV>
StepCache<KV> find_step(const Cache<KV>& cache, const Shape& shape, const Sequence& sequence, int64_t kv_head,
                        int64_t first, int64_t last) {
    StepCache<KV> step;
    for (int64_t b = 0; b < STEP_BLOCKS; ++b) {
        // Past the end the last block stands in; its scores are masked.
        const int64_t page = sequence.blocks[std::min(first / BLOCK + b, last / BLOCK)] * shape.kv_heads + kv_head;
        step.keys[b] = cache.keys + page * shape.head_dim * BLOCK;
        step.values[b] = cache.values + page * shape.value_dim * BLOCK;
    }
    return step;
}

template <typename KV>
Ahead as_ahead(const StepCache<KV>& step) {
    Ahead ahead;
    for (int64_t b = 0; b < STEP_BLOCKS; ++b) {
        ahead.keys[b] = reinterpret_cast<const char*>(step.keys[b]);
        ahead.values[b] = reinterpret_cast<const char*>(step.values[b]);
    }
    ahead.size = sizeof(KV);
    return ahead;
}

// The step as float32, for several tiles: it is widened once for all of them.
StepCache<float> widened(const StepCache<float>& step, const Shape&) { return step; }

StepCache<float> widened(const StepCache<bfloat>& step, const Shape& shape) {
    static thread_local std::vector<vec16> space;
    const int64_t keys = shape.head_dim * BLOCK, values = shape.value_dim * BLOCK;
    space.resize(STEP_BLOCKS * (keys + values) / 16);
    StepCache<float> wide;
    float* to = reinterpret_cast<float*>(space.data());
    for (int64_t b = 0; b < STEP_BLOCKS; ++b) {
        wide.keys[b] = to;
        for (int64_t i = 0; i < keys; i += LANES, to += LANES) store(to, load(step.keys[b] + i));
        wide.values[b] = to;
        for (int64_t i = 0; i < values; i += LANES, to += LANES) store(to, load(step.values[b] + i));
    }
    return wide;
}

template <typename KV>
void attend(const float* query, const int64_t* query_strides, float* out, const Cache<KV>& cache, const Shape& shape,
            const std::vector<Sequence>& sequences, int threads) {
    const int64_t group = shape.heads / shape.kv_heads;
    int64_t tiles = 0;
    for (const Sequence& s : sequences) tiles += (s.count * group + ROWS - 1) / ROWS * shape.kv_heads;
    // As many as leave enough tasks for the threads.
    const int64_t task_rows = std::clamp<int64_t>(tiles / (8 * threads), 1, TILES) * ROWS;
    std::vector<Task> tasks;
    for (size_t s = 0; s < sequences.size(); ++s)
        for (int64_t h = 0; h < shape.kv_heads; ++h)
            // Even shares.
            for (int64_t rows = sequences[s].count * group, shares = (rows + task_rows - 1) / task_rows, i = 0;
                 i < shares; ++i) {
                const int64_t begin = rows * i / shares;
                tasks.push_back({static_cast<int64_t>(s), h, begin, rows * (i + 1) / shares - begin, -1});
            }
    // Row r of a sequence and key head is query r / group, head r % group of the group.
    auto position = [&](const Task& t, int64_t n) { return sequences[t.sequence].start + (t.first_row + n) / group; };
    auto first_step = [&](int64_t at) {
        return shape.window ? std::max<int64_t>(0, at - shape.window + 1) / STEP * STEP : 0;
    };
    auto first_of = [&](const Task& t) { return first_step(position(t, 0)); };
    auto run = [&](const Task& t, int64_t partition, const float* queries, const int64_t* positions,
                   Partial* partials) {
        const int64_t last = std::min(positions[t.rows - 1], (partition + 1) * PARTITION - 1);
        for (int64_t n = 0; n < t.rows; ++n) clear(partials[n], shape.value_dim);
        for (int64_t first = std::max(first_of(t), partition * PARTITION); first <= last; first += STEP) {
            const int64_t next = first + STEP <= last ? first + STEP : first;
            const Ahead ahead = as_ahead(find_step(cache, shape, sequences[t.sequence], t.kv_head, next, last));
            auto attend_tiles = [&](const auto& step) {
                for (int64_t i = 0; i < t.tiles(); ++i) {
                    const int64_t n = t.tile_begin(i), end = t.tile_begin(i + 1);
                    if (first_step(positions[n]) <= first && first <= positions[end - 1])
                        attend_rows(end - n, shape, step, ahead, first, std::min(last, positions[end - 1]),
                                    queries + n * shape.head_dim, positions + n, partials + n);
                }
            };
            const StepCache<KV> step = find_step(cache, shape, sequences[t.sequence], t.kv_head, first, last);
            if (t.tiles() > 1)
                attend_tiles(widened(step, shape));
            else
                attend_tiles(step);
        }
    };
    // The queries, tile by tile [head_dim][rows].
    auto read = [&](const Task& t, int64_t* positions) {
        static thread_local std::vector<float> space;
        space.resize(t.rows * shape.head_dim);
        for (int64_t i = 0; i < t.tiles(); ++i) {
            const int64_t begin = t.tile_begin(i), count = t.tile_begin(i + 1) - begin;
            for (int64_t n = 0; n < count; ++n) {
                const int64_t row = sequences[t.sequence].begin + (t.first_row + begin + n) / group;
                const int64_t head = t.kv_head * group + (t.first_row + begin + n) % group;
                const float* from = query + row * query_strides[0] + head * query_strides[1];
                float* to = space.data() + begin * shape.head_dim + n;
                for (int64_t d = 0; d < shape.head_dim; ++d) to[d * count] = from[d];
                positions[begin + n] = position(t, begin + n);
            }
        }
        return space.data();
    };
    auto write = [&](const Task& t, Partial* partials) {
        for (int64_t n = 0; n < t.rows; ++n) {
            const int64_t row = sequences[t.sequence].begin + (t.first_row + n) / group;
            const int64_t head = t.kv_head * group + (t.first_row + n) % group;
            float* to = out + (row * shape.heads + head) * shape.value_dim;
            for (int64_t v = 0; v < shape.value_dim; v += LANES)
                store(to + v, load(partials[n].values + v) / partials[n].sum);
        }
    };

    // Few rows over long contexts, as one answer at a time on many cores: partitions side by side. Few tasks have one
    // tile each.
    std::vector<Task> pieces;
    if (static_cast<int64_t>(tasks.size()) < 2 * threads)
        for (const Task& t : tasks)
            for (int64_t p = first_of(t) / PARTITION; p <= position(t, t.rows - 1) / PARTITION; ++p)
                pieces.push_back({t.sequence, t.kv_head, t.first_row, t.rows, p});
    if (pieces.size() <= tasks.size()) {
        parallel_for(threads, static_cast<int64_t>(tasks.size()), [&](int64_t i) {
            const Task& t = tasks[i];
            int64_t positions[TASK_ROWS];
            Partial all[TASK_ROWS], part[TASK_ROWS];
            const float* queries = read(t, positions);
            for (int64_t n = 0; n < t.rows; ++n) clear(all[n], shape.value_dim);
            for (int64_t p = first_of(t) / PARTITION; p <= positions[t.rows - 1] / PARTITION; ++p) {
                run(t, p, queries, positions, part);
                for (int64_t n = 0; n < t.rows; ++n) merge(all[n], part[n], shape.value_dim);
            }
            write(t, all);
        });
        return;
    }
    std::vector<Partial> parts(pieces.size() * ROWS);
    parallel_for(threads, static_cast<int64_t>(pieces.size()), [&](int64_t i) {
        int64_t positions[ROWS];
        const float* queries = read(pieces[i], positions);
        run(pieces[i], pieces[i].partition, queries, positions, &parts[i * ROWS]);
    });
    for (size_t i = 0; i < pieces.size();) {
        Partial all[ROWS];
        const Task& t = pieces[i];
        for (int64_t n = 0; n < t.rows; ++n) clear(all[n], shape.value_dim);
        size_t end = i;
        for (; end < pieces.size() && pieces[end].sequence == t.sequence && pieces[end].kv_head == t.kv_head &&
               pieces[end].first_row == t.first_row; ++end)
            for (int64_t n = 0; n < t.rows; ++n) merge(all[n], parts[end * ROWS + n], shape.value_dim);
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
