// A verified integer graph in memory. What the nodes mean: src/bitspike/deploy/ir.py.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "format.hpp"

namespace bitspike {

enum class Op : std::uint32_t {
  Input, Conv, Linear, Lif, OrPool, SumPool, Add, Readout, Attention,
  Stream, MaxPool, Reduce, Gate, MatMul, Concat, Mix, Product
};
constexpr std::uint32_t kOps = 17;
const char* op_name(Op op);

// What an edge carries; see ir.py.
enum class Kind { Input, Spikes, Counts, Current, Logits, Stream };
const char* kind_name(Kind kind);

constexpr std::uint32_t kMaxSources = 4;

// Option of a Reduce: what is summed; of a MatMul: which operand is transposed.
enum Axis : std::uint32_t { kOverChannels = 1, kOverTokens, kOverBoth };
enum Transposed : std::uint32_t { kNone, kLeft, kRight };

struct Node {
  Op op = Op::Input;
  Kind kind = Kind::Input;  // of the edge that leaves the node
  std::uint32_t sources[kMaxSources] = {0, 0, 0, 0};  // Attention: query, key, value
  std::uint32_t source_count = 0;
  std::uint32_t channels = 0, height = 0, width = 0;  // of the output
  std::uint32_t kernel_height = 0, kernel_width = 0, stride = 0, padding = 0;  // unused ones are 0
  std::uint32_t groups = 0;  // of a Conv; heads of an Attention, Reduce, MatMul
  std::uint32_t bits = 0;    // of a weight, a membrane, a stream
  // Input: frames; Lif: leak shift; Readout: 1 if pixels are summed; Stream: steps with a multiplier of their own
  std::uint32_t option = 0;
  bool soft_reset = false;
  bool odd = false;  // weights are the odd numbers within +-(2^bits - 1); never set at 1 bit, where they are anyway

  // Zero point / multipliers, bias, threshold, membrane shift / bias / multipliers (option, channels), bias, shift of a
  // Stream / weight (T, T), threshold (T) of a Mix; otherwise per channel.
  std::vector<std::vector<std::int32_t>> params;
  Bytes packed_weights;             // in the file
  std::uint64_t weight_inputs = 0;  // weights per output channel
  std::vector<std::uint8_t> fits_int16;  // per channel, the membrane (Lif) or weighted sum provably fits 16 bits

  std::uint64_t pixels() const { return std::uint64_t{height} * width; }
  std::uint64_t size() const { return pixels() * channels; }
  // Its spikes are results that a caller may ask for.
  bool fires() const { return op == Op::Lif || op == Op::Mix; }
  // Weighted sums and products that the node that reads them computes, tile by tile.
  bool fused() const { return op == Op::Conv || op == Op::Linear || op == Op::Attention || op == Op::MatMul; }
  bool weighted() const { return op == Op::Conv || op == Op::Linear || op == Op::Readout; }
  bool odd_levels() const { return weighted() && (odd || bits == 1); }
  int largest_weight() const { return odd_levels() ? (1 << bits) - 1 : (1 << (bits - 1)) - 1; }
  // Already verified, (channels, weight_inputs). Odd levels of 8 bits do not fit, so they are `halved`: v stands for the
  // weight 2 v + 1.
  std::vector<std::int8_t> unpack_weights() const;
  bool halved() const { return odd && bits == 8; }
  int weight(std::int8_t unpacked) const { return halved() ? 2 * unpacked + 1 : unpacked; }
};

struct TestVectors {
  std::uint32_t count = 0;
  Bytes body;  // the records, after the count
};

struct Graph {
  std::uint32_t time_steps = 0;
  std::vector<Node> nodes;
  Bytes calib, meta;
  bool has_calib = false, has_meta = false;
  TestVectors test_vectors;

  const Node& input() const { return nodes.front(); }
  const Node& readout() const { return nodes.back(); }
  std::uint64_t sample_size() const { return input().option * input().size(); }
};

// Memory that a file may make this process use, so that a small file cannot ask for a huge one.
class Budget {
 public:
  explicit Budget(std::uint64_t limit) : limit_(limit) {}
  // Fails where the limit would be exceeded, naming `what`, of a node where there is one.
  void charge(std::uint64_t bytes, const char* what, const Graph* graph = nullptr, std::size_t node = 0);
  void release(std::uint64_t bytes) { used_ -= bytes; }
  std::uint64_t used() const { return used_; }

 private:
  std::uint64_t limit_;
  std::uint64_t used_ = 0;
};

// The one way to read a file. Verifies every rule of docs/format.md; the graph points into `file`.
Graph load_graph(Bytes file, Budget& budget);

// "node 3 (Conv)", for messages.
std::string label(const Graph& graph, std::size_t index);

// Fails with a message that begins with the node.
[[noreturn]] void fail_at_with(const Graph& graph, std::size_t index, std::uint64_t parts, ...);
template <class... T>
[[noreturn, gnu::always_inline]] inline void fail_at(const Graph& graph, std::size_t index, const T&... parts) {
  fail_at_with(graph, index, parts_of<std::decay_t<T>...>(), part(parts)...);
}

// Smallest and largest value of an edge per channel. Proven, never read from a file.
struct Range {
  Range() = default;
  explicit Range(std::uint32_t channels) : low(channels), high(channels) {}

  std::vector<std::int32_t> low, high;
};

// Proves that node `index` stays within 32 bits (counts within 255), given the ranges of the nodes before it;
// `weights` are its unpacked ones. Sets `fits_int16` of a Lif and of the sums it may read in 16 bits.
Range prove_range(Graph& graph, std::size_t index, const std::vector<Range>& ranges,
                  const std::vector<std::int8_t>& weights);

}  // namespace bitspike
