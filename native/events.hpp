// Kernels that follow single spikes, once per instruction set level: attention, and weighted sums of a convolution
// whose source rarely fires.
//
// A weighted sum is the sum of one row of weights (one number per output channel) for each spike under the kernel.
// First every line of the source edge becomes a list of its spikes, in order. The spikes under one line of a kernel
// are then one piece of that list, whatever the kernel's width. The pieces of an output row become one list of row
// offsets, and the rows are added in bytes for as long as no sum of weights can leave a byte, then in 16 bits.
#pragma once

#include <cstddef>
#include <cstdint>

#include "attention.hpp"

namespace bitspike {

constexpr std::size_t kEventLanes = 64;  // output channels per byte register; blocks have one or two of them

// A Conv or Linear node with one group that reads spikes; a Linear is a Conv whose kernel covers its source.
struct EventPlan {
  std::size_t channels = 0, height = 0, width = 0, frames = 0;  // of the source
  std::size_t kernel_height = 1, kernel_width = 1, stride = 1, padding = 0;
  std::size_t out_width = 0, outputs = 0;
  std::size_t largest = 1;  // weight, in magnitude

  // Offsets and positions in a line are stored in 32 and 16 bits.
  bool possible() const { return width * channels <= 65536 && rows() * kEventLanes <= UINT32_MAX; }

  std::size_t rows() const { return kernel_height * kernel_width * channels + 1; }  // of weights; the last is zero
  std::size_t lanes() const { return (outputs + kEventLanes - 1) / kEventLanes * kEventLanes; }
  std::size_t blocks() const { return (outputs + 2 * kEventLanes - 1) / (2 * kEventLanes); }
  std::size_t lines() const { return frames * height; }
  std::size_t weight_bytes() const { return rows() * lanes(); }
  // Positions of a line may be written in whole registers, so one line never reaches into the next, which another
  // thread may own.
  std::size_t line_capacity() const { return width * channels + 32; }
  // The spike lists of one edge, shared by all readers of the edge and all threads.
  std::size_t positions_bytes() const { return lines() * line_capacity() * 2; }
  std::size_t starts_bytes() const { return lines() * (width + 1) * 4; }
  // Offset lists of a few output rows: scratch memory of one thread.
  std::size_t list_bytes() const { return batch() * list_capacity() * 4 + 64; }
  std::size_t list_capacity() const { return rows() + 4; }
  std::size_t batch() const {  // output rows per pass over the weights
    const std::size_t fitting = (std::size_t{256} << 10) / (list_capacity() * 4);
    return fitting < 1 ? 1 : fitting > 64 ? 64 : fitting;
  }
};

// Weights (outputs, channels, kernel height, kernel width) to [block][row][lanes of the block] bytes, row
// (line * kernel width + column) * channels + channel. `out` has plan.weight_bytes(), 64-byte aligned.
void pack_event_weights(const EventPlan& plan, const std::int8_t* weights, std::int8_t* out);

// Spikes of every line: positions column * channels + channel, ascending, from starts[line][column] on.
struct SpikeLists {
  std::uint16_t* positions;  // plan.positions_bytes()
  std::uint32_t* starts;     // [lines][width + 1], plan.starts_bytes()
};

struct EventTask {
  EventPlan plan;
  SpikeLists lists;
  const std::int8_t* weights;  // packed
  std::uint32_t* local;        // plan.list_bytes() of the calling thread
  bool narrow;                 // results are 16-bit (modulo 2^16), else 32-bit
};

// Where a weighted sum goes: out + (pixel - first) * pixel_stride + frame * step_stride, in numbers.
struct EventOutput {
  void* data;  // int16 or int32, see EventTask::narrow
  std::size_t pixel_stride, step_stride;
};

struct EventKernels {
  AttentionKernels attention;
  // Lists the spikes of lines first .. last - 1 (frame * height + row) of an edge.
  void (*list_spikes)(const EventPlan&, const SpikeBits& edge, const SpikeLists&, std::size_t first, std::size_t last);
  // Weighted sums of output pixels first .. first + pixels - 1 at every frame, for blocks first_block ..
  // last_block - 1 of 128 output channels. Writes all lanes up to the next multiple of 16 outputs.
  void (*event_rows)(const EventTask&, std::size_t first, std::size_t pixels, std::size_t first_block,
                     std::size_t last_block, const EventOutput&);
};

// Positions of the set bits of every byte, in order; 0 where there are none left.
struct BitTable {
  std::uint8_t position[256][8];
  std::uint8_t count[256];
};
extern const BitTable kBitTable;

const EventKernels& portable_event_kernels();
const EventKernels* avx2_event_kernels();    // null where this build has none
const EventKernels* avx512_event_kernels();  // null where this build has none

}  // namespace bitspike
