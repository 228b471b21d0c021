// Proofs that the integers of a graph fit, repeated for every file that is loaded. All arithmetic here is 64-bit
// and cannot overflow: products of ends below 2^31 each stay below 2^62, those of a readout's weights with values below
// 2^23 on less than 2^32 pixels below 2^63 - 2^54, and sums stop as soon as they leave 2^33.
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
  Range attention();
  Range matmul();
  Range membranes();
  Range counts() const;
  Range inputs() const;
  Range stream() const;
  Range scaled(std::int64_t factor) const;
  Range reduced() const;
  Range concatenated() const;
  Range products() const;
  void mixed() const;

 private:
  Ends edge(std::uint32_t source, std::uint32_t channel) const {
    if (graph_.nodes[source].kind == Kind::Spikes) return {0, 1};
    return {ranges_[source].low[channel], ranges_[source].high[channel]};
  }
  static Ends times(std::int64_t factor, Ends ends) {
    const std::int64_t a = factor * ends.low, b = factor * ends.high;
    return {std::min(a, b), std::max(a, b)};
  }
  void store(Range& range, std::uint32_t channel, Ends ends, const char* what) const {
    require_int32(channel, ends, what);
    range.low[channel] = static_cast<std::int32_t>(ends.low);
    range.high[channel] = static_cast<std::int32_t>(ends.high);
  }
  // Every channel counts from 0 to `most`.
  Range coincidences(std::int64_t most) {
    Range range(node_.channels);
    require_int32(0, {0, most}, "the current");
    std::fill(range.high.begin(), range.high.end(), static_cast<std::int32_t>(most));
    node_.fits_int16 = std::vector<std::uint8_t>(node_.channels, most <= INT16_MAX);
    return range;
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
    store(range, channel, ends, "the current");
    node_.fits_int16[channel++] = ends.low >= INT16_MIN && ends.high <= INT16_MAX;
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
Range Prover::attention() {
  const Node& key = graph_.nodes[node_.sources[1]];
  return coincidences(static_cast<std::int64_t>(key.channels / node_.groups * key.pixels()));  // below 2^48
}

Range Prover::matmul() {
  const Node& left = graph_.nodes[node_.sources[0]];
  return coincidences(static_cast<std::int64_t>(node_.option == kLeft ? left.channels / node_.groups : left.pixels()));
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
      const Ends value = times(node_.params[i][c], edge(node_.sources[i], c));
      require_int32(c, value, "a scaled source");
      u = {u.low + value.low, u.high + value.high};
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

// Values of all steps, then what shifting and clipping leave of them.
Range Prover::stream() const {
  const std::size_t sources = node_.source_count;
  const auto& bias = node_.params[sources];
  const auto& shift = node_.params[sources + 1];
  const std::int64_t limit = (std::int64_t{1} << (node_.bits - 1)) - 1;
  Range range(node_.channels);
  for (std::uint32_t c = 0; c < node_.channels; ++c) {
    const std::int64_t half = (std::int64_t{1} << shift[c]) >> 1;
    Ends all{INT32_MAX, INT32_MIN};
    for (std::uint32_t step = 0; step < node_.option; ++step) {
      Ends sum{bias[c], bias[c]};
      for (std::size_t i = 0; i < sources; ++i) {
        const Ends value = times(node_.params[i][std::size_t{step} * node_.channels + c], edge(node_.sources[i], c));
        require_int32(c, value, "a scaled source");
        sum = {sum.low + value.low, sum.high + value.high};
      }
      require_int32(c, sum, "the stream before its shift");
      all = {std::min(all.low, sum.low + half), std::max(all.high, sum.high + half)};
    }
    require_int32(c, all, "the stream before its shift, rounded,");
    const auto end = [&](std::int64_t value) { return std::clamp(value >> shift[c], -limit, limit); };
    store(range, c, {end(all.low), end(all.high)}, "the stream");
  }
  return range;
}

Range Prover::scaled(std::int64_t factor) const {
  Range range(node_.channels);
  for (std::uint32_t c = 0; c < node_.channels; ++c) {
    store(range, c, times(factor, edge(node_.sources[0], c)), "the sum");
  }
  return range;
}

Range Prover::reduced() const {
  const Node& source = graph_.nodes[node_.sources[0]];
  const std::uint64_t channels = node_.option == kOverTokens ? 1 : source.channels / node_.groups;
  return scaled(static_cast<std::int64_t>(channels * (node_.option == kOverChannels ? 1 : source.pixels())));
}

Range Prover::concatenated() const {
  if (node_.kind == Kind::Spikes) return {};
  Range range(node_.channels);
  std::ptrdiff_t first = 0;
  for (std::uint32_t i = 0; i < node_.source_count; ++i) {
    const Range& part = ranges_[node_.sources[i]];
    std::copy(part.low.begin(), part.low.end(), range.low.begin() + first);
    std::copy(part.high.begin(), part.high.end(), range.high.begin() + first);
    first += static_cast<std::ptrdiff_t>(part.low.size());
  }
  return range;
}

Range Prover::products() const {
  Range range(node_.channels);
  for (std::uint32_t c = 0; c < node_.channels; ++c) {
    const Ends left = edge(node_.sources[0], c), right = edge(node_.sources[1], c);
    const Ends low = times(right.low, left), high = times(right.high, left);
    store(range, c, {std::min(low.low, high.low), std::max(low.high, high.high)}, "the product");
  }
  return range;
}

// With one range for all channels: else a row would cost T times as many steps as there are channels.
void Prover::mixed() const {
  const std::uint32_t steps = graph_.time_steps;
  Ends value{INT32_MAX, INT32_MIN};
  for (std::uint32_t c = 0; c < node_.channels; ++c) {
    const Ends one = edge(node_.sources[0], c);
    value = {std::min(value.low, one.low), std::max(value.high, one.high)};
  }
  for (std::uint32_t t = 0; t < steps; ++t) {
    Ends sum;
    for (std::uint32_t j = 0; j <= t; ++j) {
      const Ends part = times(node_.params[0][std::size_t{t} * steps + j], value);
      require_int32(0, part, "a weighted step");
      sum = {sum.low + part.low, sum.high + part.high};
      require_int32(0, sum, "a sum over steps");
    }
  }
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
    case Op::Add:
      return prover.counts();
    case Op::SumPool: {
      const Node& node = graph.nodes[index];
      if (node.kind == Kind::Counts) return prover.counts();
      return prover.scaled(std::int64_t{node.kernel_height} * node.kernel_width);
    }
    case Op::Stream:
      return prover.stream();
    case Op::MaxPool:
      return ranges[graph.nodes[index].sources[0]];
    case Op::Reduce:
      return prover.reduced();
    case Op::MatMul:
      return prover.matmul();
    case Op::Concat:
      return prover.concatenated();
    case Op::Product:
      return prover.products();
    case Op::Mix:
      prover.mixed();
      return {};
    case Op::Readout:
      prover.logits(weights);
      return {};
    case Op::OrPool:
    case Op::Gate:
      return {};
  }
  return {};
}

}  // namespace bitspike
