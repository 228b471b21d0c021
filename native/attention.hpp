// Spiking self-attention (ir.Attention): counts of coincidences, as currents of the Lif that reads them.
//
// Two exact orders of multiplication. `products`: per step and head the matrix G = key^T value is counted once, with
// tokens packed into words, and each query pixel adds the rows of G that its spikes select. `scores`: each query
// pixel counts its overlap with every key token, and adds the value spikes of the token that often; better where
// tokens are few.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace bitspike {

// What is known before any sample. A "unit" is one head at one time step.
//
struct AttentionPlan {
  std::size_t heads = 1;
  std::size_t key_channels = 0, value_channels = 0;  // per head
  std::size_t queries = 0, tokens = 0;               // pixels of the query, of key and value
  std::size_t steps = 0;
  bool scores = false;  // which order
  bool wide = false;    // a sum may leave 16 bits: rows of G have 32-bit numbers instead

  std::size_t words() const { return (tokens + 31) / 32; }
  std::size_t key_lanes() const { return (key_channels + 15) / 16 * 16; }  // rows of G, what pads them is zero
  std::size_t lanes() const { return (value_channels + 15) / 16 * 16; }  // of a row of G
  std::size_t units() const { return scores ? 0 : steps * heads; }  // to prepare
  std::size_t unit_bytes() const { return key_lanes() * lanes() * (wide ? 4 : 2); }
  // All of G, shared by the threads of a sample. Fits 64 bits for every valid graph (it stays below 2^46).
  std::size_t shared_bytes() const { return units() * unit_bytes() + 256; }
  // Scratch memory of one thread.
  std::size_t local_bytes() const {
    if (scores) return tokens * 4 + 64;
    return (key_lanes() + lanes()) * words() * 4 + 64;
  }
};

AttentionPlan plan_attention(std::size_t heads, std::size_t key_channels, std::size_t value_channels,
                             std::size_t queries, std::size_t tokens, std::size_t steps);

// Channel bits [step][pixel][pixel_bytes]. Up to 64 bytes past the edge are read, never used.
struct SpikeBits {
  const std::uint8_t* data;
  std::size_t step_bytes, pixel_bytes;

  const std::uint8_t* at(std::size_t step, std::size_t pixel) const {
    return data + step * step_bytes + pixel * pixel_bytes;
  }
};

// Bits first .. first + count - 1 of a row, count at most 64. Static: each level compiles it for itself.
static inline std::uint64_t bits_at(const std::uint8_t* row, std::size_t first, std::size_t count) {
  const std::size_t shift = first % 8;
  std::uint64_t bits;
  std::memcpy(&bits, row + first / 8, sizeof bits);
  bits >>= shift;
  if (shift != 0) bits |= std::uint64_t{row[first / 8 + 8]} << (64 - shift);
  return count < 64 ? bits & ((std::uint64_t{1} << count) - 1) : bits;
}

struct AttentionTask {
  AttentionPlan plan;
  SpikeBits query, key, value;
  std::uint8_t* shared;  // plan.shared_bytes(), 64-byte aligned
  std::uint8_t* local;   // plan.local_bytes(), 64-byte aligned
};

// One entry per level; the functions are in attention.inl.
struct AttentionKernels {
  // Words of 32 tokens of channels first .. first + count - 1 at one step: runs of 16 channels are `run_stride` apart,
  // the words of a run `word_stride`. The last run is filled up with zeros.
  void (*pack)(const SpikeBits&, std::size_t step, std::size_t tokens, std::size_t first, std::size_t count,
               std::uint32_t* out, std::size_t run_stride, std::size_t word_stride);
  // G of units first .. last - 1. Every unit must be prepared before currents are computed.
  void (*prepare)(const AttentionTask&, std::size_t first, std::size_t last);
  // Currents of query pixels first .. first + pixels - 1 at every step: `value_channels * heads` numbers at
  // out + (pixel - first) * pixel_stride + step * step_stride. Nothing else is written.
  void (*currents)(const AttentionTask&, std::size_t first, std::size_t pixels, std::int32_t* out,
                   std::size_t pixel_stride, std::size_t step_stride);
};

}  // namespace bitspike
