#include "prepare.hpp"

#include <algorithm>
#include <cstring>

namespace bitspike {
namespace {

// Words of one weight row: bit planes of b-bit numbers, or int16 values.
class RowPacker {
 public:
  RowPacker(const Projection& p, const Node& node) : p_(p), node_(node) {}

  // Row `lane` of the block at `block`; input (tap, channel) is lane number `position` of the gathered row.
  void set(std::uint32_t* block, std::size_t lane, std::size_t position, std::int8_t unpacked) const {
    const int weight = node_.weight(unpacked);
    if (p_.path != Projection::Path::Bits) {
      const auto value = static_cast<std::uint32_t>(static_cast<std::uint16_t>(weight));
      block[position / 2 * kLanes + lane] |= value << (position % 2 * 16);
      return;
    }
    // An odd weight is 2 code + 1, the code a two's complement number of as many bits.
    const auto code = static_cast<std::uint32_t>(node_.odd_levels() ? (weight - 1) / 2 : weight);
    for (std::size_t plane = 0; plane < p_.planes; ++plane) {
      const std::uint32_t bit = (code >> plane) & 1;
      block[(plane * p_.words + position / 32) * kLanes + lane] |= bit << (position % 32);
    }
  }

 private:
  const Projection& p_;
  const Node& node_;
};

void allocate(Projection& p, std::size_t bytes, const Graph& graph, std::size_t index, Budget& budget) {
  budget.charge(bytes, "prepared weights", &graph, index);
  p.weights = AlignedBuffer(bytes);
  std::memset(p.weights.data(), 0, bytes);
}

// Threads may begin at any block, and kernels read two blocks at a time.
std::size_t padded_size(std::size_t channels) { return round_up(channels, kLanes) + kLanes; }

// Rows of `channels` values each.
std::vector<std::int32_t> padded(const std::vector<std::int32_t>& values, std::size_t channels, std::int32_t fill) {
  const std::size_t lanes = padded_size(channels), rows = values.size() / channels;
  std::vector<std::int32_t> result(rows * lanes, fill);
  for (std::size_t i = 0; i < values.size(); ++i) result[i / channels * lanes + i % channels] = values[i];
  return result;
}

}  // namespace

Edge make_edge(const Node& node, std::uint32_t time_steps) {
  Edge e;
  e.stored = !node.fused() && node.kind != Kind::Logits;
  e.bits = node.kind == Kind::Spikes;
  e.wide = node.kind == Kind::Current || node.kind == Kind::Stream;
  e.frames = node.op == Op::Input ? node.option : time_steps;
  e.channels = node.channels;
  e.height = node.height;
  e.width = node.width;
  e.pixel_bytes = e.bits ? (e.channels + 7) / 8 : (e.wide ? 4 : 2) * e.channels;
  return e;
}

Projection prepare_projection(const Graph& graph, std::size_t index, const Edge& source, bool weighted,
                              Budget& budget) {
  const Node& node = graph.nodes[index];
  const bool linear = node.op == Op::Linear;
  Projection p;
  p.source = node.sources[0];
  p.kernel_height = linear ? source.height : node.kernel_height;
  p.kernel_width = linear ? source.width : node.kernel_width;
  p.stride = linear ? 1 : node.stride;
  p.padding = node.padding;
  p.out_width = node.width;
  p.groups = linear ? 1 : node.groups;
  p.group_inputs = source.channels / p.groups;
  p.group_outputs = node.channels / p.groups;
  p.row_bytes = p.taps() * source.pixel_bytes;
  p.row_words = (p.row_bytes + 3) / 4;
  p.words = p.row_words;
  p.blocks = round_up(p.group_outputs, kLanes) / kLanes;
  std::size_t tap_lanes = source.lanes();  // of a row that a kernel reads
  if (p.groups == 1) {
    p.path = source.bits ? Projection::Path::Bits : Projection::Path::Values;
    p.counts_ones = source.bits && node.odd_levels();
    p.planes = source.bits ? node.bits : 1;
  } else {
    p.path = p.group_inputs == 1 && p.group_outputs == 1 ? Projection::Path::Depthwise : Projection::Path::Grouped;
    p.words = (p.taps() * p.group_inputs + 1) / 2;
    tap_lanes = p.group_inputs;
  }

  if (!weighted) return p;
  const Unpacked unpacked(graph, index, budget);
  const std::vector<std::int8_t>& weights = unpacked.values;
  const std::size_t taps = p.taps();
  if (p.path == Projection::Path::Depthwise) {
    const std::size_t lanes = round_up(node.channels, kLanes);
    allocate(p, taps * lanes * sizeof(std::int16_t), graph, index, budget);
    auto* out = reinterpret_cast<std::int16_t*>(p.weights.data());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      out[i % taps * lanes + i / taps] = static_cast<std::int16_t>(node.weight(weights[i]));
    }
    return p;
  }
  allocate(p, p.groups * p.blocks * p.block_words() * sizeof(std::uint32_t), graph, index, budget);
  const RowPacker packer(p, node);
  auto* words = reinterpret_cast<std::uint32_t*>(p.weights.data());
  const std::int8_t* w = weights.data();
  for (std::size_t m = 0; m < node.channels; ++m) {
    const std::size_t group = m / p.group_outputs, row = m % p.group_outputs;
    std::uint32_t* block = words + (group * p.blocks + row / kLanes) * p.block_words();
    for (std::size_t c = 0; c < p.group_inputs; ++c) {
      for (std::size_t tap = 0; tap < taps; ++tap) packer.set(block, row % kLanes, tap * tap_lanes + c, *w++);
    }
  }
  return p;
}

TileParams prepare_tiles(const Node& node, Budget& budget) {
  const std::size_t channels = node.channels, lanes = padded_size(channels);
  const bool lif = node.op == Op::Lif, stream = node.op == Op::Stream;
  const std::size_t sources = lif || stream ? node.source_count : 0;
  budget.charge((sources * (stream ? node.option : 1) + 3) * lanes * sizeof(std::int32_t), "prepared parameters");
  TileParams params;
  for (std::size_t i = 0; i < sources; ++i) {
    const auto& m = node.params[i];
    const bool scales = std::any_of(m.begin(), m.end(), [](std::int32_t x) { return x != 1; });
    if (scales) params.multipliers[i] = padded(m, channels, 0);
  }
  const std::vector<std::int32_t> zeros(lanes);
  params.bias = sources ? padded(node.params[sources], channels, 0) : zeros;
  params.shift = sources ? padded(node.params.back(), channels, 0) : zeros;
  if (lif) params.threshold = padded(node.params[sources + 1], channels, INT32_MAX);
  return params;
}

ReadoutWeights prepare_readout(const Graph& graph, const Edge& source, Budget& budget) {
  const Node& node = graph.readout();
  const std::size_t pixels = node.option == 1 ? 1 : source.pixels();
  ReadoutWeights readout;
  readout.features = pixels * source.lanes();
  readout.halved = node.halved();
  budget.charge(node.channels * readout.features, "prepared weights", &graph, graph.nodes.size() - 1);
  readout.weights.assign(node.channels * readout.features, 0);
  const Unpacked unpacked(graph, graph.nodes.size() - 1, budget);
  const std::int8_t* w = unpacked.values.data();
  for (std::size_t m = 0; m < node.channels; ++m) {
    for (std::size_t c = 0; c < source.channels; ++c) {
      for (std::size_t p = 0; p < pixels; ++p) {
        readout.weights[m * readout.features + p * source.lanes() + c] = *w++;
      }
    }
  }
  return readout;
}

}  // namespace bitspike
