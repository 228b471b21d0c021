// Weights and parameters in the form the kernels read, made once at load.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "graph.hpp"
#include "kernels.hpp"

namespace bitspike {

static_assert(sizeof(std::size_t) >= 8, "sizes that a file may ask for are computed in 64 bits");

constexpr std::size_t kAlignment = 64;

constexpr std::size_t round_up(std::size_t size, std::size_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

// Memory aligned to a cache line; not initialised.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size)
      : data_(static_cast<std::uint8_t*>(::operator new(size, std::align_val_t{kAlignment}))) {}

  std::uint8_t* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(std::uint8_t* p) const { ::operator delete(p, std::align_val_t{kAlignment}); }
  };
  std::unique_ptr<std::uint8_t, Free> data_;
};

// How an edge lies in memory: [frames][height][width][pixel_bytes], spikes as channel bits (`bits`), inputs and
// counts as int16 per channel, streams and currents as int32 (`wide`). A current of Node::fused() is stored only where
// a Product reads it: other readers compute it tile by tile.
struct Edge {
  bool stored = false, bits = false, wide = false;
  std::size_t frames = 0, channels = 0, height = 0, width = 0, pixel_bytes = 0;
  std::size_t offset = 0;  // in the scratch memory of a run

  std::size_t pixels() const { return height * width; }
  std::size_t step_bytes() const { return pixels() * pixel_bytes; }
  std::size_t size() const { return frames * step_bytes(); }
  // Values or bits per pixel, unused bits included.
  std::size_t lanes() const { return bits ? 8 * pixel_bytes : channels; }
};

Edge make_edge(const Node& node, std::uint32_t time_steps);

// A Conv or Linear node; a Linear is a Conv whose kernel covers its whole source.
struct Projection {
  enum class Path { Bits, Values, Grouped, Depthwise };

  Path path = Path::Values;
  std::size_t source = 0;
  std::size_t kernel_height = 0, kernel_width = 0, stride = 1, padding = 0;
  std::size_t out_width = 0;
  std::size_t groups = 1, group_inputs = 0, group_outputs = 0;
  bool counts_ones = false;  // rows of bits meet weights of odd levels

  std::size_t row_bytes = 0, row_words = 0;  // a gathered row: [taps][pixel bytes] of the source
  std::size_t words = 0;                     // that a kernel reads per row (of one group)
  std::size_t planes = 1, blocks = 0;        // per group
  AlignedBuffer weights;  // [groups][blocks][planes][words][16] x 32 bits; Depthwise: [taps][lanes] x 16 bits

  std::size_t taps() const { return kernel_height * kernel_width; }
  std::size_t block_words() const { return planes * words * kLanes; }
  const std::uint32_t* group_weights(std::size_t group) const {
    return reinterpret_cast<const std::uint32_t*>(weights.data()) + group * blocks * block_words();
  }
};

// Unless `weighted` only the geometry: another family of kernels computes the node.
Projection prepare_projection(const Graph& graph, std::size_t index, const Edge& source, bool weighted,
                              Budget& budget);

// Unpacked weights, charged for as long as they are needed.
class Unpacked {
 public:
  Unpacked(const Graph& graph, std::size_t index, Budget& budget)
      : budget_(budget), size_(graph.nodes[index].weight_inputs * graph.nodes[index].channels) {
    budget_.charge(size_, "weights", &graph, index);
    values = graph.nodes[index].unpack_weights();
  }
  ~Unpacked() { budget_.release(size_); }
  Unpacked(const Unpacked&) = delete;
  Unpacked& operator=(const Unpacked&) = delete;

  std::vector<std::int8_t> values;

 private:
  Budget& budget_;
  std::uint64_t size_;
};

// Parameters of a Lif or Stream, padded with neutral values: two blocks may be read from where any block begins.
struct TileParams {
  std::vector<std::int32_t> multipliers[kMaxSources];  // empty where all are 1; of a Stream (option, lanes)
  std::vector<std::int32_t> bias, threshold, shift;
};

// Of another node those of a Stream that changes nothing.
TileParams prepare_tiles(const Node& node, Budget& budget);

// Readout weights [classes][features], features in the order of the stored edge.
struct ReadoutWeights {
  std::size_t features = 0;
  bool halved = false;  // see Node::unpack_weights
  std::vector<std::int8_t> weights;
};

ReadoutWeights prepare_readout(const Graph& graph, const Edge& source, Budget& budget);

}  // namespace bitspike
