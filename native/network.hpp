// A loaded network: verified, prepared for one kernel level, and ready to run from any number of threads.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "choice.hpp"
#include "events.hpp"
#include "graph.hpp"
#include "kernels.hpp"
#include "prepare.hpp"

namespace bitspike {

// Where things lie in the scratch memory of a run, beside the edges. Sizes are the largest that any node needs.
struct Scratch {
  // Shared by all threads of a run: what is prepared of a Lif's sources.
  std::size_t positions[kMaxSources] = {}, starts[kMaxSources] = {}, planes[kMaxSources] = {};
  std::size_t operands[kMaxSources] = {};  // of products: keys and values, or matrices
  std::size_t features = 0;
  std::size_t size = 0;  // edges included

  // Of each thread.
  struct Local {
    std::size_t rows = 0, ones = 0, currents[kMaxSources] = {};
    std::size_t expanded = 0, group_rows = 0, group_out = 0;  // grouped convolutions
    std::size_t events = 0, tables = 0, attention = 0;
    std::size_t sums = 0;  // one or two pixels of sums
    std::size_t size = 0;
  } local;
};

AttentionPlan attention_plan(const Graph& graph, std::size_t index);

// The sources of what is computed tile by tile: of a Lif, Stream or Mix its own, of a stored current the current itself.
struct TileSources {
  const std::uint32_t *first, *last;

  const std::uint32_t* begin() const { return first; }
  const std::uint32_t* end() const { return last; }
  std::uint32_t size() const { return static_cast<std::uint32_t>(last - first); }
};

class Network {
 public:
  // FormatError if the file breaks a rule or would need more than `max_memory` bytes; `families`: see choose_families.
  Network(std::vector<std::uint8_t> file, const Kernels& kernels, std::uint64_t max_memory,
          const std::vector<std::string>& families = {});
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  // Where results go; null pointers are skipped. `n` is the number of samples.
  struct Outputs {
    std::int32_t* logits = nullptr;      // (n, classes)
    std::int32_t* steps = nullptr;       // (n, T, classes)
    std::vector<std::uint8_t*> spikes;   // per Lif in node order, (n, T, C, H, W); empty: none
  };
  // Samples (n, frames, C, H, W). Safe to call concurrently; the number of threads never changes a result.
  void run(const std::uint8_t* samples, std::size_t n, const Outputs& outputs, unsigned threads = 1) const;

  // Seconds each node took for one sample on one thread, the least of `repeats`. A Lif's include its Conv and Linear.
  std::vector<double> profile(const std::uint8_t* sample, unsigned repeats) const;

  // Runs the stored test vectors and returns their number; FormatError naming the first that differs, or if their
  // spikes exceed the memory limit.
  std::uint32_t self_test() const;

  const Graph& graph() const { return graph_; }
  const Kernels& kernels() const { return kernels_; }
  std::uint64_t artifact_bytes() const { return file_.size(); }
  std::uint64_t memory_bytes() const { return memory_bytes_; }
  std::vector<std::size_t> lif_nodes() const;
  Family family(std::size_t node) const { return families_[node]; }

 private:
  friend class Runner;

  bool by_tables(const Node& lif) const;
  bool narrow(const Node& lif) const;
  bool tiled(std::size_t index) const;
  TileSources tile_sources(std::size_t index) const;
  // Whether those who read the node compute it for themselves.
  bool inlined(std::size_t index) const { return graph_.nodes[index].fused() && !edges_[index].stored; }
  std::size_t tile_lanes(std::size_t index) const;
  void place_edges();
  void place_scratch();
  std::size_t tile_pixels(std::size_t index) const;
  AlignedBuffer take_scratch(unsigned threads) const;
  void return_scratch(unsigned threads, AlignedBuffer buffer) const;

  std::vector<std::uint8_t> file_;  // the graph points into it
  const Kernels& kernels_;
  Graph graph_;
  std::uint64_t limit_;  // of memory
  std::uint64_t memory_bytes_ = 0;

  // Per node, empty where it is of another kind.
  std::vector<Edge> edges_;
  std::vector<Family> families_;
  struct Layer {
    Projection projection;
    SpikeLayer spikes;
    TileParams tiles;
    TableLif table_lif;  // where the only source has tables
  };
  std::vector<Layer> layers_;
  std::vector<std::uint32_t> indices_;  // 0, 1, 2 ...
  ReadoutWeights readout_;
  Scratch scratch_;

  // Scratch memory of finished runs: fresh pages would cost more than a small network's computation.
  mutable std::mutex mutex_;
  struct Idle {
    unsigned threads;
    AlignedBuffer buffer;
  };
  mutable std::vector<Idle> idle_;
};

}  // namespace bitspike
