// Weights into the layout that the linear layers read, and back. Narrow weights are symmetric: per output channel in 8
// bits, per group of 32 inputs in 4, where the farthest of a group is -8 exactly, since there is one step more on that side.

#include <algorithm>

#include "kernels.h"
#include "layout.h"
#include "pool.h"
#include "vectors.h"

namespace {

// One output channel's weights; none for the channels that fill the last tile up.
template <typename T>
struct Row {
    const T* weights;
    int64_t inputs;

    float operator[](int64_t k) const { return weights && k < inputs ? as_float(weights[k]) : 0.0f; }
};

// What the largest of some weights in absolute terms is, with its sign; NaN where one of them is no finite number, so that
// the scale is none either and nobody takes garbage for an answer.
template <typename T>
float farthest_of(const Row<T>& row, int64_t begin, int64_t end) {
    float farthest = 0, check = 0;
    for (int64_t k = begin; k < end; ++k) {
        if (std::fabs(row[k]) > std::fabs(farthest)) farthest = row[k];
        check += row[k] * 0.0f;
    }
    return check == 0 ? farthest : NAN;
}

template <typename T>
void pack8(const Row<T>& row, int64_t c, uint8_t* tile, float* scales) {
    const float largest = std::fabs(farthest_of(row, 0, row.inputs));
    const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
    scales[c] = largest / 127.0f;
    for (int64_t k = 0; k < padded(row.inputs); ++k)
        tile[place8(c, k)] = static_cast<uint8_t>((inverse > 0 ? static_cast<int>(std::nearbyint(row[k] * inverse)) : 0) + 128);
}

template <typename T>
void pack4(const Row<T>& row, int64_t c, uint8_t* tile, float* scales) {
    for (int64_t g = 0; g < groups_of(row.inputs); ++g) {
        const float farthest = farthest_of(row, g * GROUP, (g + 1) * GROUP);
        const float inverse = std::fabs(farthest) > 0 ? -8.0f / farthest : 0.0f;
        scales[g * TILE + c] = farthest / -8.0f;
        for (int64_t k = g * GROUP; k < (g + 1) * GROUP; ++k) {
            const float scaled = inverse != 0 ? std::min(7.0f, std::nearbyint(row[k] * inverse)) : 0.0f;
            const int w = static_cast<int>(scaled) + 8;
            uint8_t& byte = tile[place4(c, k)];
            byte = static_cast<uint8_t>(is_high_half(k) ? byte | w << 4 : w);
        }
    }
}

template <typename T>
void pack(const T* weights, int64_t inputs, int64_t outputs, int bits, uint8_t* to, float* scales, int threads) {
    parallel_for(threads, tiles_of(outputs), [=](int64_t t) {
        uint8_t* tile = to + t * tile_bytes(inputs, bits);
        float* own_scales = scales + t * tile_scales(inputs, bits);
        for (int64_t c = 0; c < TILE; ++c) {
            const int64_t n = t * TILE + c;
            const Row<T> row{n < outputs ? weights + n * inputs : nullptr, inputs};
            if (bits == 8) pack8(row, c, tile, own_scales);
            if (bits == 4) pack4(row, c, tile, own_scales);
            for (int64_t k = 0; bits == 32 && k < padded(inputs); ++k)
                reinterpret_cast<float*>(tile)[place32(c, k)] = row[k];
            for (int64_t k = 0; bits == 16 && k < padded(inputs); ++k)
                reinterpret_cast<bfloat*>(tile)[place16(c, k)] = rounded(row[k]);
        }
    });
}

float unpacked(const uint8_t* tile, const float* scales, int64_t c, int64_t k, int bits) {
    switch (bits) {
        case 32: return reinterpret_cast<const float*>(tile)[place32(c, k)];
        case 16: return as_float(reinterpret_cast<const bfloat*>(tile)[place16(c, k)]);
        case 8: return static_cast<float>(tile[place8(c, k)] - 128) * scales[c];
        default: {
            const int byte = tile[place4(c, k)];
            return static_cast<float>((is_high_half(k) ? byte >> 4 : byte & 15) - 8) * scales[k / GROUP * TILE + c];
        }
    }
}

void unpack(const uint8_t* packed, const float* scales, int64_t inputs, int bits, int64_t n, float* to_row) {
    const uint8_t* tile = packed + n / TILE * tile_bytes(inputs, bits);
    const float* own_scales = scales + n / TILE * tile_scales(inputs, bits);
    for (int64_t k = 0; k < inputs; ++k) to_row[k] = unpacked(tile, own_scales, n % TILE, k, bits);
}

}  // namespace

extern "C" void me_pack(const void* weights, int64_t inputs, int64_t outputs, int bits, int type, uint8_t* to,
                        float* scales, int threads) {
    type == 0 ? pack(static_cast<const float*>(weights), inputs, outputs, bits, to, scales, threads)
              : pack(static_cast<const bfloat*>(weights), inputs, outputs, bits, to, scales, threads);
}

extern "C" void me_unpack_rows(const uint8_t* packed, const float* scales, int64_t inputs, int bits,
                               const int64_t* indices, int64_t count, float* to) {
    for (int64_t i = 0; i < count; ++i) unpack(packed, scales, inputs, bits, indices[i], to + i * inputs);
}
