// Execution of one sample. Everything written lies in the scratch memory of the call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "network.hpp"

namespace bitspike {

class Runner {
 public:
  explicit Runner(const Network& network)
      : net_(network), kernels_(network.kernels_), memory_(network.take_scratch()) {}
  ~Runner() { net_.return_scratch(std::move(memory_)); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // `spikes` is null, or has one pointer per Lif.
  void run(const std::uint8_t* sample, std::int32_t* logits, std::int32_t* steps, std::uint8_t* const* spikes);

 private:
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }
  const Edge& edge(std::size_t node) const { return net_.edges_[node]; }
  const std::uint8_t* pixel(const Edge& e, std::size_t step, std::size_t index) const {
    return at<std::uint8_t>(e.offset) + step * e.step_bytes() + index * e.pixel_bytes;
  }
  // sums[channel] += the edge's values at one pixel.
  void add_pixels(const Edge& e, const std::uint8_t* first, std::size_t pixels, std::int32_t* sums) const;

  void present(const std::uint8_t* sample);
  void lif(std::size_t index);
  void current(const Projection& p, std::size_t first, std::size_t pixels, std::int32_t* out, std::size_t lanes);
  void gather(const Projection& p, std::size_t out_pixel, std::uint8_t* rows) const;
  void grouped(const Projection& p, std::size_t rows, std::int32_t* out, std::size_t lanes);
  void or_pool(std::size_t index);
  void sum_pool(std::size_t index);
  void add(std::size_t index);
  void readout(std::int32_t* logits, std::int32_t* steps);
  void write_spikes(std::size_t index, std::uint8_t* out) const;
  template <class F>
  void each_window(std::size_t index, F visit) const;
  void store_counts(const Edge& e, std::size_t step, std::size_t index, const std::int32_t* sums);

  const Network& net_;
  const Kernels& kernels_;
  AlignedBuffer memory_;
};

}  // namespace bitspike
