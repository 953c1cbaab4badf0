// Sixteen floats at a time, by the compiler's own vectors: one text for every processor, and the same arithmetic in the
// same order on each, for as long as it has fused multiply-add.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

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

inline __attribute__((always_inline)) ivec16 iota16() {
    return ivec16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
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

// The lanes in halves, in quarters, in pairs of pairs and in pairs, changed over.
inline __attribute__((always_inline)) vec16 swapped8(vec16 x) {
    return __builtin_shuffle(x, ivec16{8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7});
}
inline __attribute__((always_inline)) vec16 swapped4(vec16 x) {
    return __builtin_shuffle(x, ivec16{4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11});
}
inline __attribute__((always_inline)) vec16 swapped2(vec16 x) {
    return __builtin_shuffle(x, ivec16{2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13});
}
inline __attribute__((always_inline)) vec16 swapped1(vec16 x) {
    return __builtin_shuffle(x, ivec16{1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14});
}

// In a fixed order: halves, quarters, eighths, pairs.
inline __attribute__((always_inline)) float total(vec16 x) {
    x += swapped8(x);
    x += swapped4(x);
    x += swapped2(x);
    x += swapped1(x);
    return x[0];
}

inline __attribute__((always_inline)) float highest(vec16 x) {
    x = max16(x, swapped8(x));
    x = max16(x, swapped4(x));
    x = max16(x, swapped2(x));
    x = max16(x, swapped1(x));
    return x[0];
}

// e^x within 2 units in the last place for x <= 0, and exactly 0 below -87. Cody and Waite's reduction, and the
// polynomial of Cephes' expf.
inline __attribute__((always_inline)) vec16 exp16(vec16 x) {
    const vec16 clamped = max16(x < splat(88.0f) ? x : splat(88.0f), splat(-87.0f));
    const vec16 shifter = splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
    const vec16 whole = (clamped * splat(1.44269504088896341f) + shifter) - shifter;
    vec16 r = clamped - whole * splat(0.693359375f);
    r = r - whole * splat(-2.12194440e-4f);
    vec16 p = splat(1.9875691500e-4f);
    p = p * r + splat(1.3981999507e-3f);
    p = p * r + splat(8.3334519073e-3f);
    p = p * r + splat(4.1665795894e-2f);
    p = p * r + splat(1.6666665459e-1f);
    p = p * r + splat(5.0000001201e-1f);
    p = p * (r * r) + r + splat(1.0f);
    const ivec16 power = (__builtin_convertvector(whole, ivec16) + 127) << 23;
    vec16 scale;
    std::memcpy(&scale, &power, sizeof scale);
    const vec16 result = p * scale;
    return x < splat(-87.0f) ? splat(0.0f) : result;
}
