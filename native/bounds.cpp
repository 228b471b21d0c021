// Proofs that the integers of a graph fit, repeated for every file that is loaded. All arithmetic here is 64-bit
// and cannot overflow: magnitudes are at most 2^47 per product below, and sums stop as soon as they leave 2^33.
#include <algorithm>
#include <cstdlib>

#include "graph.hpp"

namespace bitspike {
namespace {

constexpr std::int64_t kInt32Max = INT32_MAX;

struct Ends {
  std::int64_t low = 0, high = 0;
};

class Prover {
 public:
  Prover(Graph& graph, std::size_t index, const std::vector<Range>& ranges)
      : graph_(graph), node_(graph.nodes[index]), index_(index), ranges_(ranges) {}

  // Ends of `weights` times the source, per output channel; each source value is a sum over `area` pixels.
  std::vector<Ends> product(const std::vector<std::int8_t>& weights, std::int64_t area) const;
  Range currents(const std::vector<std::int8_t>& weights);
  void logits(const std::vector<std::int8_t>& weights) const;
  Range attention() const;
  Range membranes();
  Range counts() const;
  Range inputs() const;

 private:
  Ends edge(std::uint32_t source, std::uint32_t channel) const {
    if (graph_.nodes[source].kind == Kind::Spikes) return {0, 1};
    return {ranges_[source].low[channel], ranges_[source].high[channel]};
  }
  void require_int32(std::uint32_t channel, Ends ends, const char* what) const {
    if (ends.low >= -kInt32Max && ends.high <= kInt32Max) return;
    fail_at(graph_, index_, what, " of channel ", channel, " reaches ", ends.low, " to ", ends.high,
            ", accepted: within +-", kInt32Max);
  }

  Graph& graph_;
  Node& node_;
  std::size_t index_;
  const std::vector<Range>& ranges_;
};

std::vector<Ends> Prover::product(const std::vector<std::int8_t>& weights, std::int64_t area) const {
  const Node& source = graph_.nodes[node_.sources[0]];
  const std::uint32_t groups = std::max(node_.groups, 1u);
  const std::uint32_t inputs = source.channels / groups, outputs = node_.channels / groups;
  const std::uint64_t taps = node_.weight_inputs / inputs;
  std::vector<Ends> ends(node_.channels);
  const std::int8_t* w = weights.data();
  for (std::uint32_t m = 0; m < node_.channels; ++m) {
    for (std::uint32_t c = 0; c < inputs; ++c) {
      std::int64_t positive = 0, negative = 0;
      for (std::uint64_t tap = 0; tap < taps; ++tap) {
        const int weight = node_.weight(*w++);
        (weight > 0 ? positive : negative) += weight;
      }
      // Padding contributes zeros, so the range of a value always includes 0.
      const Ends value = edge(node_.sources[0], m / outputs * inputs + c);
      const std::int64_t low = std::min<std::int64_t>(value.low, 0) * area;
      const std::int64_t high = std::max<std::int64_t>(value.high, 0) * area;
      ends[m].low += positive * low + negative * high;
      ends[m].high += positive * high + negative * low;
      // Both ends only ever move outwards: beyond 2^33 no bias can bring them back.
      if (std::max(-ends[m].low, ends[m].high) > (std::int64_t{1} << 33)) require_int32(m, ends[m], "a weighted sum");
    }
  }
  return ends;
}

Range Prover::currents(const std::vector<std::int8_t>& weights) {
  Range range(node_.channels);
  node_.fits_int16 = std::vector<std::uint8_t>(node_.channels);
  std::uint32_t channel = 0;
  for (const Ends& ends : product(weights, 1)) {
    require_int32(channel, ends, "the current");
    node_.fits_int16[channel] = ends.low >= INT16_MIN && ends.high <= INT16_MAX;
    range.low[channel] = static_cast<std::int32_t>(ends.low);
    range.high[channel++] = static_cast<std::int32_t>(ends.high);
  }
  return range;
}

void Prover::logits(const std::vector<std::int8_t>& weights) const {
  const bool pool = node_.option == 1;
  const auto area = static_cast<std::int64_t>(graph_.nodes[node_.sources[0]].pixels());
  const std::int64_t steps = graph_.time_steps;
  std::uint32_t channel = 0;
  for (const Ends& ends : product(weights, pool ? area : 1)) {
    const std::int64_t bias = node_.params[0][channel];
    require_int32(channel++, {(ends.low + bias) * steps, (ends.high + bias) * steps}, "the logit");
  }
}

// Every query channel of the head meets every token of key and value.
Range Prover::attention() const {
  const Node& key = graph_.nodes[node_.sources[1]];
  const auto dimension = static_cast<std::int64_t>(key.channels / node_.groups);
  const std::int64_t most = dimension * static_cast<std::int64_t>(key.pixels());  // below 2^48
  require_int32(0, {0, most}, "the current");
  Range range(node_.channels);
  std::fill(range.high.begin(), range.high.end(), static_cast<std::int32_t>(most));
  return range;
}

Range Prover::membranes() {
  const std::size_t sources = node_.source_count;
  const auto& bias = node_.params[sources];
  const auto& threshold = node_.params[sources + 1];
  const auto& shift = node_.params[sources + 2];
  const std::int64_t limit = (std::int64_t{1} << (node_.bits - 1)) - 1;
  node_.fits_int16 = std::vector<std::uint8_t>(node_.channels);
  for (std::uint32_t c = 0; c < node_.channels; ++c) {
    Ends u{bias[c], bias[c]};
    for (std::size_t i = 0; i < sources; ++i) {
      const Ends value = edge(node_.sources[i], c);
      const std::int64_t a = node_.params[i][c] * value.low, b = node_.params[i][c] * value.high;
      require_int32(c, {std::min(a, b), std::max(a, b)}, "a scaled source");
      u = {u.low + std::min(a, b), u.high + std::max(a, b)};
    }
    const std::int64_t carry = limit << shift[c];
    u = {u.low - carry, u.high + carry};
    require_int32(c, u, "the membrane potential");
    const std::int64_t reset = std::abs(std::int64_t{threshold[c]});
    const std::int64_t taken = node_.soft_reset ? reset : 0;
    const Ends widest{u.low - taken, u.high + taken + ((std::int64_t{1} << shift[c]) >> 1)};
    require_int32(c, widest, "the membrane after reset and rounding");
    node_.fits_int16[c] = widest.low >= INT16_MIN && widest.high <= INT16_MAX && reset <= INT16_MAX;
  }
  return {};  // spikes are 0 or 1 for every channel
}

Range Prover::counts() const {
  Range range(node_.channels);
  const bool pool = node_.op == Op::SumPool;
  for (std::uint32_t c = 0; c < node_.channels; ++c) {
    const std::int64_t first = edge(node_.sources[0], c).high;
    // A SumPool has no padding, so its kernel is at most 65535 and the square fits.
    const std::int64_t high =
        pool ? first * node_.kernel_height * node_.kernel_width : first + edge(node_.sources[1], c).high;
    if (high > 255) fail_at(graph_, index_, "counts of channel ", c, " reach ", high, ", accepted: at most 255");
    range.high[c] = static_cast<std::int32_t>(high);
  }
  return range;
}

Range Prover::inputs() const {
  Range range(node_.channels);
  for (std::uint32_t c = 0; c < node_.channels; ++c) {
    const std::int32_t zero = node_.params[0][c];
    range.low[c] = -zero;
    range.high[c] = 255 - zero;
  }
  return range;
}

}  // namespace

Range prove_range(Graph& graph, std::size_t index, const std::vector<Range>& ranges,
                  const std::vector<std::int8_t>& weights) {
  Prover prover(graph, index, ranges);
  switch (graph.nodes[index].op) {
    case Op::Input:
      return prover.inputs();
    case Op::Conv:
    case Op::Linear:
      return prover.currents(weights);
    case Op::Attention:
      return prover.attention();
    case Op::Lif:
      return prover.membranes();
    case Op::SumPool:
    case Op::Add:
      return prover.counts();
    case Op::Readout:
      prover.logits(weights);
      return {};
    case Op::OrPool:
      return {};
  }
  return {};
}

}  // namespace bitspike
