// Sixteen floats at a time, by the compiler's own vectors: one text for every processor, and the same arithmetic in the
// same order on each, for as long as it has fused multiply-add.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef float vec16 __attribute__((vector_size(64)));
typedef int32_t ivec16 __attribute__((vector_size(64)));
typedef uint16_t hvec16 __attribute__((vector_size(32)));

struct bfloat {
    uint16_t bits;
};

inline __attribute__((always_inline)) vec16 splat(float x) {
    return vec16{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

inline __attribute__((always_inline)) vec16 max16(vec16 a, vec16 b) { return a > b ? a : b; }

inline __attribute__((always_inline)) vec16 load16(const float* from) {
    vec16 x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline __attribute__((always_inline)) vec16 load16(const bfloat* from) {
#if defined(__AVX512F__)
    // The compiler's own way takes four instructions more.
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const ivec16 bits = (ivec16)_mm512_maskz_cvtepu16_epi32(0xffff, half) << 16;
#else
    hvec16 half;
    std::memcpy(&half, from, sizeof half);
    const ivec16 bits = __builtin_convertvector(half, ivec16) << 16;
#endif
    vec16 x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

inline __attribute__((always_inline)) void store16(float* to, vec16 x) { std::memcpy(to, &x, sizeof x); }

inline float as_float(float x) { return x; }

inline float as_float(bfloat x) {
    const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
}

// Rounds to the nearest, ties to even; a NaN stays one.
inline bfloat rounded(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    if ((bits & 0x7fffffff) > 0x7f800000) return {static_cast<uint16_t>((bits >> 16) | 0x40)};
    return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

inline __attribute__((always_inline)) void store16(bfloat* to, vec16 x) {
    ivec16 bits;
    std::memcpy(&bits, &x, sizeof bits);
    const ivec16 high = (bits >> 16) & 0xffff;
    const ivec16 nearest = ((bits + 0x7fff + (high & 1)) >> 16) & 0xffff;
    const hvec16 half = __builtin_convertvector(x == x ? nearest : high | 0x40, hvec16);
    std::memcpy(to, &half, sizeof half);
}

template <typename To>
inline To to(float x);
template <>
inline float to<float>(float x) {
    return x;
}
template <>
inline bfloat to<bfloat>(float x) {
    return rounded(x);
}

// What one register holds, for loops whose sums must stay in registers: a vec16 in several of them goes through memory.
#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__x86_64__)
constexpr int LANES = 8, REGISTERS = 16;
#else
constexpr int LANES = 4, REGISTERS = 32;
#endif
typedef float vec __attribute__((vector_size(LANES * sizeof(float))));
typedef int32_t words __attribute__((vector_size(LANES * sizeof(int32_t))));

inline __attribute__((always_inline)) vec load(const float* from) {
    vec x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline __attribute__((always_inline)) vec load(const bfloat* from) {
#if defined(__AVX512F__)
    return load16(from);
#else
    typedef uint16_t halves __attribute__((vector_size(LANES * sizeof(uint16_t))));
    halves half;
    std::memcpy(&half, from, sizeof half);
    return (vec)(__builtin_convertvector(half, words) << 16);
#endif
}

inline __attribute__((always_inline)) void store(float* to, vec x) { std::memcpy(to, &x, sizeof x); }

// Lane by lane, b where they do not compare.
inline __attribute__((always_inline)) vec maximum(vec a, vec b) {
#if defined(__AVX512F__)
    // The compiler makes two instructions of it where one operand is a constant.
    return (vec)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#else
    return a > b ? a : b;
#endif
}

inline __attribute__((always_inline)) vec minimum(vec a, vec b) {
#if defined(__AVX512F__)
    return (vec)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b);
#else
    return a < b ? a : b;
#endif
}

// 0, 1, 2 and so on, as many as lanes.
using Lanes = std::make_integer_sequence<int32_t, LANES>;

template <int32_t... I>
inline __attribute__((always_inline)) words numbers(std::integer_sequence<int32_t, I...>) {
    return words{I...};
}

// One lane from all, by halves: each lane with the one that is Half away first.
template <int Half, typename Join, int32_t... I>
inline __attribute__((always_inline)) float joined_lanes(vec x, Join join, std::integer_sequence<int32_t, I...> lanes) {
    x = join(x, __builtin_shuffle(x, words{(I ^ Half)...}));
    if constexpr (Half > 1)
        return joined_lanes<Half / 2>(x, join, lanes);
    else
        return x[0];
}

// A vec16 as registers.
struct Sixteen {
    vec parts[16 / LANES];

    explicit Sixteen(float x) {
        for (vec& part : parts) part = vec{} + x;
    }
    explicit Sixteen(vec16 x) { std::memcpy(parts, &x, sizeof x); }

    // In a fixed order: halves, quarters, eighths, pairs.
    template <typename Join>
    float joined(Join join) const {
        Sixteen rest = *this;
        for (int half = 8 / LANES; half > 0; half /= 2)
            for (int i = 0; i < half; ++i) rest.parts[i] = join(rest.parts[i], rest.parts[i + half]);
        return joined_lanes<LANES / 2>(rest.parts[0], join, Lanes());
    }
    float total() const { return joined([](vec a, vec b) { return a + b; }); }
    float highest() const { return joined([](vec a, vec b) { return maximum(a, b); }); }
};

inline __attribute__((always_inline)) float total(vec16 x) { return Sixteen(x).total(); }
inline __attribute__((always_inline)) float highest(vec16 x) { return Sixteen(x).highest(); }

// e^x within 2 units in the last place for x <= 0, and exactly 0 below -87. Cody and Waite's reduction, and the
// polynomial of Cephes' expf.
inline __attribute__((always_inline)) vec exponential(vec x) {
    const vec clamped = maximum(minimum(x, vec{} + 88.0f), vec{} - 87.0f);
    const float shifter = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number, in the lowest bits
    const vec shifted = clamped * 1.44269504088896341f + shifter;
    const vec whole = shifted - shifter;
    vec r = clamped - whole * 0.693359375f;
    r = r - whole * -2.12194440e-4f;
    vec p = vec{} + 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    // Times 2^whole: the exponent's bits count on, for neither p nor the result is denormal.
    const vec result = (vec)((words)p + ((words)shifted << 23));
    return x < -87.0f ? vec{} : result;
}

inline __attribute__((always_inline)) vec16 exp16(vec16 x) {
    Sixteen all(x);
    for (vec& part : all.parts) part = exponential(part);
    std::memcpy(&x, all.parts, sizeof x);
    return x;
}
