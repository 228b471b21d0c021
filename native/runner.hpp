// Execution of one sample. Everything written lies in the scratch memory of the call.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "network.hpp"
#include "pool.hpp"

namespace bitspike {

constexpr std::size_t kWorthSharing = 4000;

class Runner {
 public:
  Runner(const Network& network, const Team& team)
      : net_(network), kernels_(network.kernels_), team_(team), memory_(network.take_scratch(team.size())) {}
  ~Runner() { net_.return_scratch(team_.size(), std::move(memory_)); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // `spikes` is null, or has one pointer per Lif; `seconds` is null, or has one entry per node.
  void run(const std::uint8_t* sample, std::int32_t* logits, std::int32_t* steps, std::uint8_t* const* spikes,
           double* seconds = nullptr);

 private:
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }
  // Scratch memory of one part of the work.
  template <class T>
  T* own(unsigned part, std::size_t offset) const {
    return at<T>(net_.scratch_.size + part * net_.scratch_.local.size + offset);
  }
  // Calls work(part, parts) for one part, or one per thread where `nanoseconds` of work are worth waking them.
  template <class Work>
  void share(std::size_t nanoseconds, Work work) const {
    const unsigned parts = nanoseconds < kWorthSharing ? 1 : team_.size();
    team_.run(parts, [&](unsigned part) { work(part, parts); });
  }
  const Edge& edge(std::size_t node) const { return net_.edges_[node]; }
  const std::uint8_t* pixel(const Edge& e, std::size_t step, std::size_t index) const {
    return at<std::uint8_t>(e.offset) + step * e.step_bytes() + index * e.pixel_bytes;
  }
  // sums[channel] += the edge's values at one pixel.
  void add_pixels(const Edge& e, const std::uint8_t* first, std::size_t pixels, std::int32_t* sums) const;

  // What one part computes of a Lif: pixels, and channels in whole blocks.
  struct Piece {
    unsigned part;
    Span pixels, channels;
  };
  // Where values of a source for a tile go: int32 or, where narrow, int16 [pixel][frame][lanes].
  struct Tile {
    std::size_t first, pixels;
    void* out;
    std::size_t lanes;
    bool narrow;

    std::int32_t* wide() const { return static_cast<std::int32_t*>(out); }
  };

  void node(std::size_t index, const std::uint8_t* sample, std::int32_t* logits, std::int32_t* steps);
  void present(const std::uint8_t* sample);
  void compute(std::size_t index);
  void prepare_source(std::size_t source, std::uint32_t slot) const;
  void lif_by_tables(std::size_t index, const Piece& piece) const;
  void compute_tiles(std::size_t index, const Piece& piece) const;
  TileSource source_values(std::size_t index, std::uint32_t slot, const Piece& piece, const Tile& tile) const;
  void current(std::size_t source, std::uint32_t slot, const Piece& piece, const Tile& tile) const;
  void gather(const Projection& p, std::size_t out_pixel, std::uint8_t* rows) const;
  void grouped(const Projection& p, unsigned part, std::size_t rows, std::int32_t* out, std::size_t lanes) const;
  EventTask event_task(std::size_t source, std::uint32_t slot, unsigned part, bool narrow) const;
  SpikeBits spike_bits(std::size_t node) const {
    const Edge& e = edge(node);
    return {pixel(e, 0, 0), e.step_bytes(), e.pixel_bytes};
  }
  void pack_operands(std::size_t source, std::uint32_t slot) const;
  void multiply_tile(std::size_t source, std::uint32_t slot, unsigned part, const Tile& tile) const;
  AttentionTask attention_task(std::size_t source, std::uint32_t slot, unsigned part) const;
  void or_pool(std::size_t index);
  void sum_pool(std::size_t index);
  void add(std::size_t index);
  void wide_pool(std::size_t index);
  void reduce(std::size_t index);
  void gate(std::size_t index);
  void concatenate(std::size_t index);
  void product(std::size_t index);
  void readout(std::int32_t* logits, std::int32_t* steps);
  void write_spikes(std::size_t index, std::uint8_t* out) const;
  void store_counts(const Edge& e, std::size_t step, std::size_t index, const std::int32_t* sums) const;

  const Network& net_;
  const Kernels& kernels_;
  const Team& team_;
  AlignedBuffer memory_;
};

}  // namespace bitspike
