// Plain C++ for any machine.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "events.hpp"

namespace bitspike {
namespace {

inline std::int32_t count_bits(std::uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555;
  x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333);
  x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0F;
  return static_cast<std::int32_t>((x * 0x0101010101010101) >> 56);
}

// The same without a multiplication, which compilers turn into vector code.
inline std::int32_t count_bits(std::uint32_t x) {
  x -= (x >> 1) & 0x55555555;
  x = (x & 0x33333333) + ((x >> 2) & 0x33333333);
  x = (x + (x >> 4)) & 0x0F0F0F0F;
  x += x >> 8;
  return static_cast<std::int32_t>((x + (x >> 16)) & 63);
}

inline std::size_t lowest_bit(std::uint64_t x) { return static_cast<std::size_t>(count_bits((x & (0 - x)) - 1)); }

constexpr int kCountedRows = 4;

struct Ints {
  std::int32_t lane[16];

  static Ints zero() { return {}; }
  void add(const std::int32_t* row) {
    for (int i = 0; i < 16; ++i) lane[i] += row[i];
  }
  void add_hits(const std::uint32_t* words, std::uint32_t word) {
    for (int i = 0; i < 16; ++i) lane[i] += count_bits(words[i] & word);
  }
  void add_where(std::uint32_t mask, std::int32_t value) {
    for (int i = 0; i < 16; ++i) lane[i] += value & -static_cast<std::int32_t>((mask >> i) & 1);
  }
  void store(std::int32_t* out, std::size_t count = 16) const {
    for (std::size_t i = 0; i < 16 && i < count; ++i) out[i] = lane[i];
  }
  void store(std::uint16_t* out) const {
    for (int i = 0; i < 16; ++i) out[i] = static_cast<std::uint16_t>(lane[i]);
  }
};

template <int V>
struct Shorts {
  static constexpr std::size_t kCount = 32 * V;
  std::uint16_t lane[kCount];

  static Shorts zero() { return {}; }
  void add(const std::uint16_t* row) {
    for (std::size_t i = 0; i < kCount; ++i) lane[i] = static_cast<std::uint16_t>(lane[i] + row[i]);
  }
  void store(std::int32_t* out, std::size_t count) const {
    for (std::size_t i = 0; i < kCount && i < count; ++i) out[i] = lane[i];
  }
};

inline std::uint16_t* append_spikes(std::uint32_t bits, std::uint16_t first, std::uint16_t* end) {
  for (; bits != 0; bits >>= 8, first = static_cast<std::uint16_t>(first + 8)) {
    const std::uint8_t* positions = kBitTable.position[bits & 255];
    // All eight are written, so that nothing here branches on a count.
    for (int i = 0; i < 8; ++i) end[i] = static_cast<std::uint16_t>(positions[i] + first);
    end += kBitTable.count[bits & 255];
  }
  return end;
}

inline std::uint32_t* append_offsets(const std::uint16_t* positions, std::size_t count, std::uint32_t shift,
                                     std::uint32_t* next) {
  for (std::size_t i = 0; i < count; ++i) next[i] = (positions[i] + shift) * kEventLanes;
  return next + count;
}

// Rows are copied before they are added: a compiler then knows that they are no part of the sum.
template <int V>
struct Sum {
  static constexpr std::size_t kCount = 64 * V;
  std::uint8_t bytes[kCount];
  std::int16_t shorts[kCount];

  static Sum zero() { return {}; }
  void begin() { std::memset(bytes, 0, kCount); }
  void add(const std::int8_t* row) {
    std::uint8_t other[kCount];
    std::memcpy(other, row, kCount);
    for (std::size_t i = 0; i < kCount; ++i) bytes[i] = static_cast<std::uint8_t>(bytes[i] + other[i]);
  }
  void add_wide(const std::int8_t* row) {
    std::int8_t other[kCount];
    std::memcpy(other, row, kCount);
    for (std::size_t i = 0; i < kCount; ++i) shorts[i] = static_cast<std::int16_t>(shorts[i] + other[i]);
  }
  void widen() { add_wide(reinterpret_cast<const std::int8_t*>(bytes)); }
  void store(std::int16_t* out, std::size_t count) const {
    for (std::size_t i = 0; i < kCount && i < count; ++i) out[i] = shorts[i];
  }
  // out += sums; out = sums where nothing is stored yet.
  void add_to(std::int32_t* out, std::size_t count, bool stored) const {
    for (std::size_t i = 0; i < kCount && i < count; ++i) out[i] = (stored ? out[i] : 0) + shorts[i];
  }
};

#include "attention.inl"
#include "events.inl"

}  // namespace

const EventKernels& portable_event_kernels() {
  static const EventKernels table{{pack_tokens, attention_prepare, attention_currents}, list_spikes, event_rows};
  return table;
}

}  // namespace bitspike
