// Linear layers over weights in 32, 16, 8 or 4 bits, whose rows never depend on the rows beside them nor on threads.
//
// Activations are float32. 32 and 16 bits: products are summed in the order of the inputs, in 16 bits over activations
// rounded to bfloat16. 8 and 4 bits: activations are quantized row by row, so a row's scale is its own, and sums of
// integers are exact in any order. Those weights are symmetric per output channel (8 bit) or per group of 32 inputs
// (4 bit), stored as unsigned numbers (w + 128, w + 8), which is what the dot product instructions want; the row's sum
// takes the offset out again.

#include <algorithm>
#include <type_traits>
#include <vector>

#include "kernels.h"
#include "layout.h"
#include "pool.h"
#include "vectors.h"

namespace {

constexpr int VECTORS = TILE / 16;
// Rows that a pass over a tile's weights takes at most: 24 sums, and what they are made of, fill the registers.
#if defined(__AVX512F__)
constexpr int WIDE_ROWS = 6, NARROW_ROWS = 12;
#else
constexpr int WIDE_ROWS = 2, NARROW_ROWS = 2;
#endif
constexpr int64_t AHEAD = 4096;  // bytes of weights that are asked for before they are needed

// How many vectors of a tile N rows take at a time: all, or half of them where all sums would not fit.
template <int N>
constexpr int VECTORS_AT_ONCE = N <= WIDE_ROWS ? VECTORS : VECTORS / 2;

typedef uint8_t bytes64 __attribute__((vector_size(64)));

inline __attribute__((always_inline)) bytes64 load64(const uint8_t* from) {
    bytes64 x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

// For each of 16 channels: sum + its four unsigned weights times the four signed activations in `x`.
inline __attribute__((always_inline)) ivec16 dot4(ivec16 sum, bytes64 weights, int32_t x) {
#if defined(__AVX512VNNI__)
    return (ivec16)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)weights, _mm512_set1_epi32(x));
#elif defined(__AVX2__)
    // In 16 bits: the instruction for bytes would saturate.
    const __m256i xs = _mm256_cvtepi8_epi16(_mm_set1_epi32(x));
    __m256i halves[2], sums[2];
    std::memcpy(halves, &weights, sizeof halves);
    std::memcpy(sums, &sum, sizeof sums);
    for (int i = 0; i < 2; ++i) {
        const __m256i low = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_castsi256_si128(halves[i])), xs);
        const __m256i high = _mm256_madd_epi16(_mm256_cvtepu8_epi16(_mm256_extracti128_si256(halves[i], 1)), xs);
        const __m256i pairs = _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8);
        sums[i] = _mm256_add_epi32(sums[i], pairs);
    }
    std::memcpy(&sum, sums, sizeof sums);
    return sum;
#else
    for (int i = 0; i < 16; ++i)
        for (int j = 0; j < 4; ++j) sum[i] += weights[4 * i + j] * static_cast<int8_t>(x >> (8 * j));
    return sum;
#endif
}

inline __attribute__((always_inline)) int32_t four(const int8_t* from) {
    int32_t x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

// Rows of activations in 8 bits. `sums` has the sum of each group of 32, `offsets` 128 times the sum of each row.
struct Rows {
    int64_t inputs;  // padded
    std::vector<int8_t> values;
    std::vector<float> scales;
    std::vector<int32_t> offsets, sums;

    Rows(int64_t rows, int64_t inputs)
        : inputs(padded(inputs)), values(rows * this->inputs), scales(rows), offsets(rows),
          sums(rows * this->inputs / GROUP) {}
};

void quantize(const float* x, int64_t inputs, Rows& rows, int64_t row) {
    vec16 most = {};
    const int64_t whole = inputs / 16 * 16;
    for (int64_t i = 0; i < whole; i += 16) {
        const vec16 v = load16(x + i);
        most = max16(most, v < splat(0.0f) ? -v : v);
    }
    float largest = highest(most);
    for (int64_t i = whole; i < inputs; ++i) largest = std::max(largest, std::fabs(x[i]));
    // The maximum overlooks a NaN, a sum does not.
    vec16 check = {};
    for (int64_t i = 0; i < whole; i += 16) check += load16(x + i) * splat(0.0f);
    float checked = total(check);
    for (int64_t i = whole; i < inputs; ++i) checked += x[i] * 0.0f;
    const bool is_finite = checked == 0.0f;
    int8_t* to = rows.values.data() + row * rows.inputs;
    const float inverse = is_finite && largest > 0 ? 127.0f / largest : 0.0f;
    if (!is_finite) {
        std::fill(to, to + rows.inputs, 0);
    } else {
        const vec16 shifter = splat(12582912.0f), factor = splat(inverse);
        for (int64_t i = 0; i < whole; i += 16) {
            const vec16 v = (load16(x + i) * factor + shifter) - shifter;
            const ivec16 n = __builtin_convertvector(v, ivec16);
            typedef int8_t qvec16 __attribute__((vector_size(16)));
            const qvec16 q = __builtin_convertvector(n, qvec16);
            std::memcpy(to + i, &q, sizeof q);
        }
        for (int64_t i = whole; i < inputs; ++i)
            to[i] = static_cast<int8_t>((x[i] * inverse + 12582912.0f) - 12582912.0f);
        std::fill(to + inputs, to + rows.inputs, 0);
    }
    // A row that is no numbers gives a row that is none, and harms no other.
    rows.scales[row] = is_finite ? largest / 127.0f : NAN;
    int32_t all = 0;
    for (int64_t g = 0; g < rows.inputs / GROUP; ++g) {
        int32_t sum = 0;
        for (int64_t i = 0; i < GROUP; ++i) sum += to[g * GROUP + i];
        rows.sums[row * (rows.inputs / GROUP) + g] = sum;
        all += sum;
    }
    rows.offsets[row] = all * 128;
}

struct Target {
    float* to;
    int64_t outputs;
    const float* bias;

    // 16 channels from `channel` on, of one row.
    inline __attribute__((always_inline)) void put(int64_t row, int64_t channel, vec16 value) const {
        if (channel >= outputs) return;
        const int64_t here = std::min<int64_t>(16, outputs - channel);
        float* at = to + row * outputs + channel;
        if (here == 16) {
            if (bias) value += load16(bias + channel);
            store16(at, value);
        } else {
            for (int64_t i = 0; i < here; ++i) at[i] = value[i] + (bias ? bias[channel + i] : 0.0f);
        }
    }
};

template <int N>
inline void tile8(const uint8_t* weights, const float* scales, const Rows& rows, int64_t inputs, int64_t first,
                  int64_t tile, const Target& target) {
    constexpr int W = VECTORS_AT_ONCE<N>;
    const int8_t* x = rows.values.data() + first * rows.inputs;
    for (int from = 0; from < VECTORS; from += W) {
        ivec16 sums[N][W];
        for (int n = 0; n < N; ++n)
            for (int v = 0; v < W; ++v) sums[n][v] = ivec16{} - rows.offsets[first + n];
        const uint8_t* at = weights + from * 64;
        for (int64_t k = 0; k < padded(inputs); k += 4, at += TILE * 4) {
            bytes64 w[W];
#pragma GCC unroll 8
            for (int v = 0; v < W; ++v) {
                w[v] = load64(at + v * 64);
                __builtin_prefetch(at + v * 64 + AHEAD);
            }
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n) {
                const int32_t four_inputs = four(x + n * rows.inputs + k);
#pragma GCC unroll 8
                for (int v = 0; v < W; ++v) sums[n][v] = dot4(sums[n][v], w[v], four_inputs);
            }
        }
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
            for (int v = 0; v < W; ++v) {
                const vec16 scale = load16(scales + (from + v) * 16) * splat(rows.scales[first + n]);
                target.put(first + n, tile * TILE + (from + v) * 16, __builtin_convertvector(sums[n][v], vec16) * scale);
            }
    }
}

template <int N>
inline void tile4(const uint8_t* weights, const float* scales, const Rows& rows, int64_t inputs, int64_t first,
                  int64_t tile, const Target& target) {
    constexpr int W = 2;
    const int8_t* x = rows.values.data() + first * rows.inputs;
    const bytes64 low = (bytes64){} + 15;
    for (int from = 0; from < VECTORS; from += W) {
        vec16 results[N][W] = {};
        const uint8_t* at = weights + from * 64;
        for (int64_t g = 0; g < groups_of(inputs); ++g) {
            ivec16 sums[N][W];
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n)
                for (int v = 0; v < W; ++v)
                    sums[n][v] = ivec16{} - 8 * rows.sums[(first + n) * (rows.inputs / GROUP) + g];
            for (int64_t k = g * GROUP; k < (g + 1) * GROUP; k += 8, at += TILE * 4) {
                bytes64 w[W][2];
#pragma GCC unroll 8
                for (int v = 0; v < W; ++v) {
                    const bytes64 both = load64(at + v * 64);
                    w[v][0] = both & low, w[v][1] = both >> 4;
                    __builtin_prefetch(at + v * 64 + AHEAD);
                }
#pragma GCC unroll 16
                for (int n = 0; n < N; ++n) {
                    const int32_t x0 = four(x + n * rows.inputs + k), x1 = four(x + n * rows.inputs + k + 4);
#pragma GCC unroll 8
                    for (int v = 0; v < W; ++v) sums[n][v] = dot4(dot4(sums[n][v], w[v][0], x0), w[v][1], x1);
                }
            }
#pragma GCC unroll 16
            for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
                for (int v = 0; v < W; ++v)
                    results[n][v] +=
                        __builtin_convertvector(sums[n][v], vec16) * load16(scales + g * TILE + (from + v) * 16);
        }
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
            for (int v = 0; v < W; ++v)
                target.put(first + n, tile * TILE + (from + v) * 16, results[n][v] * splat(rows.scales[first + n]));
    }
}

template <int N>
inline void tile_wide(const float* weights, const float* x, int64_t inputs, int64_t first, int64_t tile,
                      const Target& target) {
    vec16 sums[N][VECTORS] = {};
    x += first * inputs;
    for (int64_t k = 0; k < inputs; ++k, weights += TILE) {
        vec16 w[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) {
            w[v] = load16(weights + v * 16);
            __builtin_prefetch(reinterpret_cast<const uint8_t*>(weights + v * 16) + AHEAD);
        }
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            const vec16 value = splat(x[n * inputs + k]);
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) sums[n][v] += w[v] * value;
        }
    }
    for (int n = 0; n < N; ++n)
        for (int v = 0; v < VECTORS; ++v) target.put(first + n, tile * TILE + v * 16, sums[n][v]);
}

template <int N>
inline void tile_wide(const bfloat* weights, const float* x, int64_t inputs, int64_t first, int64_t tile,
                      const Target& target) {
    vec16 sums[N][VECTORS] = {};
    x += first * inputs;
    for (int64_t k = 0; k < inputs; k += 2, weights += 2 * TILE) {
        // The last input of an odd number has a weight of 0 beside it.
        const int64_t next = k + 1 < inputs ? k + 1 : k;
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) {
            ivec16 pairs;
            std::memcpy(&pairs, weights + v * 32, sizeof pairs);
            __builtin_prefetch(reinterpret_cast<const uint8_t*>(weights + v * 32) + AHEAD);
            const ivec16 low = pairs << 16, high = pairs & static_cast<int32_t>(0xffff0000);
            vec16 even, odd;
            std::memcpy(&even, &low, sizeof even);
            std::memcpy(&odd, &high, sizeof odd);
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) {
                sums[n][v] += even * splat(x[n * inputs + k]);
                sums[n][v] += odd * splat(x[n * inputs + next]);
            }
        }
    }
    for (int n = 0; n < N; ++n)
        for (int v = 0; v < VECTORS; ++v) target.put(first + n, tile * TILE + v * 16, sums[n][v]);
}

// Calls the version of a function for `count` rows.
template <int N, typename Call>
inline void by_rows(int64_t count, const Call& call) {
    if (count == N)
        call(std::integral_constant<int, N>{});
    else if constexpr (N > 1)
        by_rows<N - 1>(count, call);
}

// Calls run(N, tile, first) for every tile of the outputs with every N rows. Even shares of at most MOST rows, so that no
// pass over a tile's weights is for one row only.
template <int MOST, typename Run>
void over_tiles(int64_t outputs, int64_t count, int threads, const Run& run) {
    const int64_t tiles = tiles_of(outputs), passes = (count + MOST - 1) / MOST;
    const int64_t chunks = std::min<int64_t>(tiles, threads * 8);
    parallel_for(threads, chunks, [&](int64_t c) {
        for (int64_t t = tiles * c / chunks; t < tiles * (c + 1) / chunks; ++t)
            for (int64_t p = 0; p < passes; ++p) {
                const int64_t first = count * p / passes;
                by_rows<MOST>(count * (p + 1) / passes - first, [&](auto n) { run(n, t, first); });
            }
    });
}

void narrow_linear(const float* x, const Target& target, const uint8_t* weights, const float* scales, int64_t count,
                   int64_t inputs, int bits, int threads) {
    Rows rows(count, inputs);
    parallel_for(count * inputs < ALONE ? 1 : threads, count,
                 [&](int64_t m) { quantize(x + m * inputs, inputs, rows, m); });
    over_tiles<NARROW_ROWS>(target.outputs, count, threads, [&](auto n, int64_t tile, int64_t first) {
        const uint8_t* w = weights + tile * tile_bytes(inputs, bits);
        const float* s = scales + tile * tile_scales(inputs, bits);
        if (bits == 8)
            tile8<n>(w, s, rows, inputs, first, tile, target);
        else
            tile4<n>(w, s, rows, inputs, first, tile, target);
    });
}

template <typename Weight>
void wide_linear(const float* x, const Target& target, const uint8_t* weights, int64_t count, int64_t inputs,
                 int threads) {
    over_tiles<WIDE_ROWS>(target.outputs, count, threads, [&](auto n, int64_t tile, int64_t first) {
        const auto* w = reinterpret_cast<const Weight*>(weights + tile * tile_bytes(inputs, 8 * sizeof(Weight)));
        tile_wide<n>(w, x, inputs, first, tile, target);
    });
}

// What is left of each number in bfloat16.
std::vector<float> as_halves(const float* x, int64_t count, int threads) {
    std::vector<float> halves(count);
    constexpr int64_t PIECE = ALONE / 8;
    parallel_for(count > ALONE ? threads : 1, (count + PIECE - 1) / PIECE, [&](int64_t piece) {
        const int64_t end = std::min(count, (piece + 1) * PIECE);
        for (int64_t i = piece * PIECE; i < end; ++i) halves[i] = as_float(rounded(x[i]));
    });
    return halves;
}

}  // namespace

extern "C" void me_linear(const float* x, float* y, const uint8_t* weights, const float* scales, const float* bias,
                          int64_t rows, int64_t inputs, int64_t outputs, int bits, int threads) {
    const Target target{y, outputs, bias};
    if (bits == 32)
        wide_linear<float>(x, target, weights, rows, inputs, threads);
    else if (bits == 16)
        wide_linear<bfloat>(as_halves(x, rows * inputs, threads).data(), target, weights, rows, inputs, threads);
    else
        narrow_linear(x, target, weights, scales, rows, inputs, bits, threads);
}
