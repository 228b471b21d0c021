// The inner loops, once per instruction set level, behind one table of functions. All levels read the same
// prepared weights and give the same bits.
//
// Output channels stand in blocks of 16 lanes. A "row" is what one output pixel sees at one time step, gathered
// into 32-bit words: spike bits, or pairs of 16-bit values.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bitspike {

constexpr std::size_t kLanes = 16;

// out[r * out_stride + lane] = sum over words of weight (lane) times row r, for one block of 16 lanes.
struct DotTask {
  const std::uint32_t* weights;  // [planes][words][16]
  std::size_t planes;
  const std::uint32_t* rows;  // [row_count][words]
  std::size_t row_count;
  std::size_t words;
  // Null, or set bits per row: each weight is then 2 w + 1, or, on one plane, +1 and -1. One plane without: 1 and 0.
  const std::int32_t* ones;
  void* out;                 // int32, or int16 where `narrow` (dot_bits only)
  std::size_t out_stride;    // in numbers
  bool narrow;

  std::int32_t* wide_row(std::size_t r) const { return static_cast<std::int32_t*>(out) + r * out_stride; }
  std::int16_t* narrow_row(std::size_t r) const { return static_cast<std::int16_t*>(out) + r * out_stride; }
};

// One source of a node for a tile of pixels: int32, or int16 where the neurons are narrow.
struct TileSource {
  const void* values;
  std::size_t pixel_stride;
  std::size_t step_stride;          // 0: the same value at every step
  const std::int32_t* multiplier;   // per channel; null: all are 1
  std::size_t multiplier_stride;    // of a Stream, between steps
};

// What is computed of a tile of pixels over all steps. Parameters are padded: see TileParams.
struct TileTask {
  TileSource sources[4];
  std::size_t source_count;
  std::size_t steps, pixels, channels;
  std::uint8_t* out;  // of (step, pixel): ceil(channels / 8) bytes of channel bits, or int32 per channel of a Stream
  std::size_t out_step_stride, out_pixel_stride;  // bytes
};

// Neurons, of at most two sources. Narrow: no source and no membrane ever leaves 16 bits.
struct LifTask : TileTask {
  const std::int32_t *bias, *threshold, *shift;
  std::int32_t limit;  // carry is clipped to +-limit before it is shifted back
  std::int32_t leak_shift;
  bool soft_reset, narrow;
};

struct StreamTask : TileTask {
  const std::int32_t *bias, *shift;
  std::int32_t limit;
};

// Sums or largest values of a window of pixels of 32-bit numbers, `channels` of each.
struct WindowTask {
  const std::int32_t* first;
  std::size_t rows, columns, row_stride, channels;
  bool largest;
  std::int32_t* out;
};

struct EventKernels;
struct TableKernels;

struct Kernels {
  const char* name;
  // Bits times weights w of b two's complement planes, lowest first, or of one plane: see DotTask::ones.
  void (*dot_bits)(const DotTask&);
  // Pairs of int16 values times pairs of int16 weights; `planes` is 1.
  void (*dot_values)(const DotTask&);
  // Number of set bits in each row.
  void (*count_ones)(const std::uint32_t* rows, std::size_t row_count, std::size_t words, std::int32_t* ones);
  // sums[8 * i + j] += bit j of byte i.
  void (*add_bits)(const std::uint8_t* bits, std::size_t bytes, std::int32_t* sums);
  // out[c] = sum over taps of weights[tap * lanes + c] * row[tap * row_stride + c], `lanes` whole blocks.
  void (*depthwise)(const std::int16_t* weights, const std::int16_t* row, std::size_t taps, std::size_t row_stride,
                    std::size_t lanes, std::int32_t* out);
  // Sum of weights times features, modulo 2^32.
  std::int32_t (*dot_features)(const std::int8_t* weights, const std::int32_t* features, std::size_t count);
  void (*lif)(const LifTask&);
  void (*stream)(const StreamTask&);
  void (*window)(const WindowTask&);
  const EventKernels* events;
  const TableKernels* tables;  // null where a level has none
};

const Kernels& portable_kernels();
const Kernels* avx2_kernels();    // null where this build has none
const Kernels* avx512_kernels();  // null where this build has none

}  // namespace bitspike
