// Linear layers over weights in 32, 16, 8 or 4 bits, whose rows never depend on the rows beside them nor on threads.
//
// Activations are float32. 32 and 16 bits: products are summed in the order of the inputs, in 16 bits over activations
// rounded to bfloat16. 8 and 4 bits: activations are quantized row by row, so a row's scale is its own, and sums of
// integers are exact in any order. Those weights are symmetric per output channel (8 bit) or per group of 32 inputs
// (4 bit), stored as unsigned numbers (w + 128, w + 8), which is what the dot product instructions want; the row's sum
// takes the offset out again.

#include <algorithm>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels.h"
#include "layout.h"
#include "pool.h"
#include "vectors.h"

namespace {

constexpr int64_t VECTORS = TILE / 16;
#if defined(__AVX512VNNI__)
constexpr int ROWS = 6;  // 24 sums, 4 vectors of weights and one of a row fill the registers
#else
constexpr int ROWS = 2;
#endif

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
inline void tile8(const uint8_t* weights, const float* scales, const Rows& rows, int64_t inputs4, int64_t first,
                  int64_t tile, const Target& target) {
    ivec16 sums[N][VECTORS] = {};
    const int8_t* x = rows.values.data() + first * rows.inputs;
    for (int64_t k = 0; k < inputs4; ++k, weights += TILE * 4) {
        bytes64 w[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) w[v] = load64(weights + v * 64);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            const int32_t four_inputs = four(x + n * rows.inputs + k * 4);
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) sums[n][v] = dot4(sums[n][v], w[v], four_inputs);
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) {
            const ivec16 exact = sums[n][v] - rows.offsets[first + n];
            const vec16 scale = load16(scales + v * 16) * splat(rows.scales[first + n]);
            target.put(first + n, tile * TILE + v * 16, __builtin_convertvector(exact, vec16) * scale);
        }
}

template <int N>
inline void tile4(const uint8_t* weights, const float* scales, const Rows& rows, int64_t groups, int64_t first,
                  int64_t tile, const Target& target) {
    vec16 results[N][VECTORS] = {};
    const int8_t* x = rows.values.data() + first * rows.inputs;
    const bytes64 low = (bytes64){} + 15;
    for (int64_t g = 0; g < groups; ++g) {
        for (int half = 0; half < VECTORS; half += 2) {
            ivec16 sums[N][2] = {};
            for (int64_t k = 0; k < GROUP / 8; ++k) {
                const uint8_t* at = weights + (g * (GROUP / 8) + k) * TILE * 4 + half * 64;
                const bytes64 a = load64(at), b = load64(at + 64);
                const bytes64 a0 = a & low, a1 = (a >> 4), b0 = b & low, b1 = (b >> 4);
#pragma GCC unroll 8
                for (int n = 0; n < N; ++n) {
                    const int8_t* here = x + n * rows.inputs + g * GROUP + k * 8;
                    const int32_t x0 = four(here), x1 = four(here + 4);
                    sums[n][0] = dot4(dot4(sums[n][0], a0, x0), a1, x1);
                    sums[n][1] = dot4(dot4(sums[n][1], b0, x0), b1, x1);
                }
            }
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) {
                const int32_t offset = 8 * rows.sums[(first + n) * (rows.inputs / GROUP) + g];
#pragma GCC unroll 8
                for (int v = 0; v < 2; ++v)
                    results[n][half + v] += __builtin_convertvector(sums[n][v] - offset, vec16) *
                                            load16(scales + g * TILE + (half + v) * 16);
            }
        }
    }
#pragma GCC unroll 8
    for (int n = 0; n < N; ++n)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v)
            target.put(first + n, tile * TILE + v * 16, results[n][v] * splat(rows.scales[first + n]));
}

template <int N>
inline void tile_wide(const float* weights, const float* x, int64_t inputs, int64_t first, int64_t tile,
                      const Target& target) {
    vec16 sums[N][VECTORS] = {};
    x += first * inputs;
    for (int64_t k = 0; k < inputs; ++k, weights += TILE) {
        vec16 w[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) w[v] = load16(weights + v * 16);
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

// For each of 16 channels: sum + its two weights times the two activations in `x`.
inline __attribute__((always_inline)) vec16 dot2(vec16 sum, ivec16 weights, int32_t x) {
#if defined(__AVX512BF16__)
    return (vec16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)weights, (__m512bh)_mm512_set1_epi32(x));
#else
    const ivec16 xs = ivec16{} + x;
    const ivec16 parts[4] = {weights << 16, weights & static_cast<int32_t>(0xffff0000), xs << 16,
                             xs & static_cast<int32_t>(0xffff0000)};
    vec16 f[4];
    std::memcpy(f, parts, sizeof f);
    sum += f[0] * f[2];
    sum += f[1] * f[3];
    return sum;
#endif
}

template <int N>
inline void tile_wide(const bfloat* weights, const bfloat* x, int64_t inputs, int64_t first, int64_t tile,
                      const Target& target) {
    vec16 sums[N][VECTORS] = {};
    x += first * inputs;
    const auto add = [&](const bfloat* at, const auto& pair_of) __attribute__((always_inline)) {
        ivec16 w[VECTORS];
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; ++v) std::memcpy(&w[v], at + v * 32, sizeof w[v]);
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            const int32_t pair = pair_of(x + n * inputs);
#pragma GCC unroll 8
            for (int v = 0; v < VECTORS; ++v) sums[n][v] = dot2(sums[n][v], w[v], pair);
        }
    };
    for (int64_t k = 0; k + 1 < inputs; k += 2)
        add(weights + k * TILE, [k](const bfloat* row) {
            int32_t pair;
            std::memcpy(&pair, row + k, sizeof pair);
            return pair;
        });
    if (inputs % 2)
        add(weights + (inputs - 1) * TILE, [=](const bfloat* row) { return int32_t{row[inputs - 1].bits}; });
    for (int n = 0; n < N; ++n)
        for (int v = 0; v < VECTORS; ++v) target.put(first + n, tile * TILE + v * 16, sums[n][v]);
}

// Calls the N-row version of a function for `count` rows.
#if defined(__AVX512VNNI__)
#define ME_BY_ROWS(count, CALL) \
    switch (count) {            \
        case 1: CALL(1); break; \
        case 2: CALL(2); break; \
        case 3: CALL(3); break; \
        case 4: CALL(4); break; \
        case 5: CALL(5); break; \
        case 6: CALL(6); break; \
    }
#else
#define ME_BY_ROWS(count, CALL) \
    switch (count) {            \
        case 1: CALL(1); break; \
        case 2: CALL(2); break; \
    }
#endif

// Every tile of the outputs with every few rows. Even shares, so that no pass over a tile's weights is for one row only.
template <typename Run>
void over_tiles(int64_t outputs, int64_t count, int threads, Run run) {
    const int64_t tiles = tiles_of(outputs), passes = (count + ROWS - 1) / ROWS;
    const int64_t chunks = std::min<int64_t>(tiles, threads * 8);
    parallel_for(threads, chunks, [&](int64_t c) {
        for (int64_t t = tiles * c / chunks; t < tiles * (c + 1) / chunks; ++t)
            for (int64_t p = 0; p < passes; ++p) {
                const int64_t first = count * p / passes;
                run(t, first, count * (p + 1) / passes - first);
            }
    });
}

void narrow_linear(const float* x, const Target& target, const uint8_t* weights, const float* scales, int64_t count,
                   int64_t inputs, int bits, int threads) {
    Rows rows(count, inputs);
    parallel_for(count * inputs < ALONE ? 1 : threads, count,
                 [&](int64_t m) { quantize(x + m * inputs, inputs, rows, m); });
    const int64_t groups = groups_of(inputs);
    over_tiles(target.outputs, count, threads, [&](int64_t tile, int64_t first, int64_t n) {
        const uint8_t* w = weights + tile * tile_bytes(inputs, bits);
        const float* s = scales + tile * tile_scales(inputs, bits);
#define ME_TILE8(N) tile8<N>(w, s, rows, rows.inputs / 4, first, tile, target)
#define ME_TILE4(N) tile4<N>(w, s, rows, groups, first, tile, target)
        if (bits == 8) {
            ME_BY_ROWS(n, ME_TILE8)
        } else {
            ME_BY_ROWS(n, ME_TILE4)
        }
    });
}

// The weights are of the same type as the activations.
template <typename T>
void wide_linear(const T* x, const Target& target, const uint8_t* weights, int64_t count, int64_t inputs, int threads) {
    over_tiles(target.outputs, count, threads, [&](int64_t tile, int64_t first, int64_t n) {
        const T* w = reinterpret_cast<const T*>(weights + tile * tile_bytes(inputs, 8 * sizeof(T)));
#define ME_TILE_WIDE(N) tile_wide<N>(w, x, inputs, first, tile, target)
        ME_BY_ROWS(n, ME_TILE_WIDE)
    });
}

void half_linear(const float* x, const Target& target, const uint8_t* weights, int64_t count, int64_t inputs,
                 int threads) {
    std::vector<bfloat> halves(count * inputs);
    parallel_for(count * inputs < ALONE ? 1 : threads, count, [&](int64_t m) {
        const float* from = x + m * inputs;
        bfloat* to = halves.data() + m * inputs;
        const int64_t whole = inputs / 16 * 16;
        for (int64_t i = 0; i < whole; i += 16) store16(to + i, load16(from + i));
        for (int64_t i = whole; i < inputs; ++i) to[i] = rounded(from[i]);
    });
    wide_linear(halves.data(), target, weights, count, inputs, threads);
}

}  // namespace

extern "C" void me_linear(const float* x, float* y, const uint8_t* weights, const float* scales, const float* bias,
                          int64_t rows, int64_t inputs, int64_t outputs, int bits, int threads) {
    const Target target{y, outputs, bias};
    if (bits == 32)
        wide_linear(x, target, weights, rows, inputs, threads);
    else if (bits == 16)
        half_linear(x, target, weights, rows, inputs, threads);
    else
        narrow_linear(x, target, weights, scales, rows, inputs, bits, threads);
}
