// How packed weights lie in memory.
//
// Tiles of 64 output channels, inputs padded to a multiple of 32. 32 bit: [tile][input][64]; 16 bit:
// [tile][input / 2][64][2]; 8 bit: [tile][input / 4][64][4]; 4 bit: [tile][input / 8][64][4], a byte's low half the first
// four inputs of the eight and its high half the others. Scales: 8 bit [tile][64], 4 bit [tile][group][64], else none.
#pragma once

#include <cstdint>

constexpr int64_t TILE = 64;
// Inputs that share a scale in 4 bits.
constexpr int64_t GROUP = 32;

inline int64_t groups_of(int64_t inputs) { return (inputs + GROUP - 1) / GROUP; }
inline int64_t padded(int64_t inputs) { return groups_of(inputs) * GROUP; }
inline int64_t tiles_of(int64_t outputs) { return (outputs + TILE - 1) / TILE; }
inline int64_t tile_bytes(int64_t inputs, int bits) { return padded(inputs) * TILE * bits / 8; }
inline int64_t tile_scales(int64_t inputs, int bits) { return bits == 8 ? TILE : bits == 4 ? groups_of(inputs) * TILE : 0; }

// Where the weight of channel c of a tile and input k stands in it: in floats, 16-bit numbers, and bytes.
inline int64_t place32(int64_t c, int64_t k) { return k * TILE + c; }
inline int64_t place16(int64_t c, int64_t k) { return (k / 2 * TILE + c) * 2 + k % 2; }
inline int64_t place8(int64_t c, int64_t k) { return (k / 4 * TILE + c) * 4 + k % 4; }
inline int64_t place4(int64_t c, int64_t k) { return (k / 8 * TILE + c) * 4 + k % 4; }
inline bool is_high_half(int64_t k) { return k % 8 >= 4; }
