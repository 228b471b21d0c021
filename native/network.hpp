// A loaded network: verified, prepared for one kernel level, and ready to run from any number of threads.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "graph.hpp"
#include "kernels.hpp"
#include "prepare.hpp"

namespace bitspike {

// Where things lie in the scratch memory of a run. Sizes are the largest that any node needs.
struct Scratch {
  std::size_t rows = 0, ones = 0, currents[2] = {0, 0};
  std::size_t expanded = 0, group_rows = 0, group_out = 0;  // grouped convolutions
  std::size_t sums = 0;                                     // one pixel of a SumPool or Add
  std::size_t features = 0;
  std::size_t size = 0;
};

class Network {
 public:
  // FormatError if the file breaks a rule or would need more than `max_memory` bytes.
  Network(std::vector<std::uint8_t> file, const Kernels& kernels, std::uint64_t max_memory);
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Where results go; null pointers are skipped. `n` is the number of samples.
  struct Outputs {
    std::int32_t* logits = nullptr;      // (n, classes)
    std::int32_t* steps = nullptr;       // (n, T, classes)
    std::vector<std::uint8_t*> spikes;   // per Lif in node order, (n, T, C, H, W); empty: none
  };
  // Samples (n, frames, C, H, W). Safe to call concurrently.
  void run(const std::uint8_t* samples, std::size_t n, const Outputs& outputs) const;

  // Runs the stored test vectors and returns their number; FormatError naming the first that differs, or if their
  // spikes exceed the memory limit.
  std::uint32_t self_test() const;

  const Graph& graph() const { return graph_; }
  const Kernels& kernels() const { return kernels_; }
  std::uint64_t artifact_bytes() const { return file_.size(); }
  std::uint64_t memory_bytes() const { return memory_bytes_; }
  std::vector<std::size_t> lif_nodes() const;

 private:
  friend class Runner;

  void place_edges();
  void place_scratch();
  std::size_t tile_pixels(const Node& lif) const;
  AlignedBuffer take_scratch() const;
  void return_scratch(AlignedBuffer buffer) const;

  std::vector<std::uint8_t> file_;  // the graph points into it
  const Kernels& kernels_;
  Graph graph_;
  std::uint64_t limit_;  // of memory
  std::uint64_t memory_bytes_ = 0;

  std::vector<Edge> edges_;              // per node
  std::vector<Projection> projections_;  // per node, empty ones where it is no Conv or Linear
  std::vector<LifParams> lifs_;          // per node likewise
  ReadoutWeights readout_;
  Scratch scratch_;

  // Scratch memory of finished runs: fresh pages would cost more than a small network's computation.
  mutable std::mutex mutex_;
  mutable std::vector<AlignedBuffer> idle_;
};

}  // namespace bitspike
