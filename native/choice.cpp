#include "choice.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace bitspike {
namespace {

constexpr double kUnknownRate = 0.1;
// Tables take about ten times the memory of 8-bit weights, and pay only while they stay in a core's own caches.
constexpr std::size_t kMostTableBytes = std::size_t{2} << 20;

// A Conv or Linear that reads spikes, as a sliding window.
struct Layer {
  const Node& node;
  const Edge& source;
  std::size_t kernel_height, kernel_width;

  std::size_t taps() const { return kernel_height * kernel_width; }
  double inputs() const { return static_cast<double>(taps() * source.channels); }
  double rows() const { return static_cast<double>(node.pixels() * source.frames); }
};

Layer make_layer(const Node& node, const Edge& source) {
  const bool linear = node.op == Op::Linear;
  return {node, source, linear ? source.height : node.kernel_height, linear ? source.width : node.kernel_width};
}

// Bits of a two's complement number that holds any weight.
std::uint32_t signed_bits(const Node& node) { return node.bits + (node.odd ? 1 : 0); }

EventPlan event_plan(const Layer& layer) {
  const Node& node = layer.node;
  EventPlan plan;
  plan.channels = layer.source.channels;
  plan.height = layer.source.height;
  plan.width = layer.source.width;
  plan.frames = layer.source.frames;
  plan.kernel_height = layer.kernel_height;
  plan.kernel_width = layer.kernel_width;
  plan.stride = std::max(node.stride, 1u);
  plan.padding = node.padding;
  plan.out_width = node.width;
  plan.outputs = node.channels;
  plan.largest = static_cast<std::size_t>(node.largest_weight());
  return plan;
}

TableShape table_shape(const Layer& layer) {
  const Node& node = layer.node;
  return {node.channels, node.height, node.width, layer.kernel_height, layer.kernel_width, std::max(node.stride, 1u),
          node.padding};
}

bool all(const std::vector<std::uint8_t>& flags) { return std::find(flags.begin(), flags.end(), 0) == flags.end(); }

// Whether all that reads the sums is a Lif that adds nothing else to them and whose membranes fit 16 bits.
bool feeds_narrow_lifs(const Graph& graph, std::size_t index) {
  for (std::size_t i = index + 1; i < graph.nodes.size(); ++i) {
    const Node& reader = graph.nodes[i];
    const auto* end = reader.sources + reader.source_count;
    if (std::find(reader.sources, end, index) == end) continue;
    if (reader.op != Op::Lif || reader.source_count != 1 || !all(reader.fits_int16)) return false;
  }
  return true;
}

// Tables compute modulo 2^16: the sums must fit, or the membranes.
bool fits_tables(const Graph& graph, std::size_t index) {
  return all(graph.nodes[index].fits_int16) || feeds_narrow_lifs(graph, index);
}

// Share of neurons that fire: stored with the file, or guessed from what the edge pools.
double firing_rate(const Graph& graph, std::size_t index) {
  const Node& node = graph.nodes[index];
  float rate = NAN;
  if (graph.has_calib) std::memcpy(&rate, graph.calib.data + index * sizeof rate, sizeof rate);
  if (rate >= 0 && rate <= 1) return rate;
  if (node.op != Op::OrPool) return kUnknownRate;
  const double silent = 1 - firing_rate(graph, node.sources[0]);
  return 1 - std::pow(silent, double{1} * node.kernel_height * node.kernel_width);
}

// Cycles of one sample, fitted to measurements on one CPU (Zen 4); only their order matters.
struct Costs {
  bool wide, vectors;  // AVX-512; any vector level

  double planes(const Layer& layer) const {
    const double words = std::ceil(static_cast<double>(layer.taps() * layer.source.pixel_bytes) / 4);
    const double blocks = std::ceil(layer.node.channels / 16.0), word = wide ? 1.6 : vectors ? 7 : 30;
    const double gather = 30 + 1.5 * words;
    return layer.rows() * (gather + word * layer.node.bits * words * blocks);
  }
  double events(const Layer& layer, double rate) const {
    const bool large = layer.node.largest_weight() > 31;
    const double row = wide ? (large ? 2.3 : 1.9) : vectors ? (large ? 4.0 : 2.0) : (large ? 10 : 4);
    const double spikes = rate * layer.inputs(), m = layer.node.channels;
    const double lists = layer.source.frames * layer.source.pixels() * std::ceil(layer.source.channels / 32.0) *
                         (wide ? 6 : vectors ? 11 : 20);
    const double fixed = 35 + 35 * std::ceil(m / 128) + (vectors ? 0 : 200);
    return lists + layer.rows() * (fixed + 0.5 * spikes + row * spikes * std::ceil(m / 64));
  }
  // The Lif of other sums reads them from 32-bit rows, into which columns are scattered.
  double tables(const Layer& layer, const TableKernels& kernels, bool narrow) const {
    const std::size_t pixels = layer.node.pixels(), frames = layer.source.frames, group = kernels.group;
    const std::size_t tile = std::clamp<std::size_t>(256 / frames, 1, pixels), tiles = (pixels + tile - 1) / tile;
    const double vectors_run = static_cast<double>(tiles * ((tile * frames + kernels.lanes - 1) / kernels.lanes));
    const double lookups = static_cast<double>(layer.taps() * ((layer.source.channels + group - 1) / group));
    const double columns = layer.node.channels * (signed_bits(layer.node) > 5 ? 2.0 : 1.0);
    const double scattered = narrow ? 0 : 10 * layer.rows() * layer.node.channels;
    return vectors_run * (lookups * columns * (wide ? 1.67 : 0.8) + lookups * 3 + columns * 12) + scattered;
  }
};

std::size_t about_table_bytes(const Node& node) {
  return static_cast<std::size_t>(node.channels * node.weight_inputs) * 10 * (signed_bits(node) > 5 ? 2 : 1);
}

bool possible(const Graph& graph, std::size_t index, const Layer& layer, const Kernels& kernels, Family family) {
  if (family == Family::None || family == Family::Planes) return family == Family::Planes;
  if (layer.node.halved()) return false;  // events and tables add weights of 8 bits
  if (family == Family::Events) return event_plan(layer).possible();
  if (!kernels.tables || !fits_tables(graph, index)) return false;
  return tables_accept(make_table_source(*kernels.tables, layer.source, layer.node.padding), table_shape(layer));
}

Family cheapest(const Graph& graph, std::size_t index, const Layer& layer, const Kernels& kernels) {
  const Costs costs{std::strcmp(kernels.name, "avx512") == 0, kernels.tables != nullptr};
  const double rate = firing_rate(graph, layer.node.sources[0]);
  Family best = Family::Planes;
  double least = costs.planes(layer);
  for (const Family family : {Family::Events, Family::Tables}) {
    if (!possible(graph, index, layer, kernels, family)) continue;
    if (family == Family::Tables && about_table_bytes(layer.node) > kMostTableBytes) continue;
    const double cost = family == Family::Events
                            ? costs.events(layer, rate)
                            : costs.tables(layer, *kernels.tables, feeds_narrow_lifs(graph, index));
    if (cost < least) best = family, least = cost;
  }
  return best;
}

template <class... T>
[[noreturn]] void refuse(const T&... parts) {
  std::string message;
  append(message, parts...);
  throw std::invalid_argument(message);
}

// None for the empty name.
Family find_family(const std::string& name) {
  if (name.empty()) return Family::None;
  for (const Family family : {Family::Planes, Family::Events, Family::Tables}) {
    if (name == family_name(family)) return family;
  }
  refuse("kernels are '", name, "', accepted: planes, events, tables");
}

}  // namespace

std::vector<std::string> family_names() {
  return {family_name(Family::Planes), family_name(Family::Events), family_name(Family::Tables)};
}

const char* family_name(Family family) {
  switch (family) {
    case Family::Planes:
      return "planes";
    case Family::Events:
      return "events";
    case Family::Tables:
      return "tables";
    case Family::None:
      break;
  }
  return "";
}

std::vector<Family> choose_families(const Graph& graph, const std::vector<Edge>& edges, const Kernels& kernels,
                                    const std::vector<std::string>& wanted) {
  const std::size_t count = graph.nodes.size();
  if (wanted.size() > 1 && wanted.size() != count) {
    refuse(wanted.size(), " kernels for ", count, " nodes");
  }
  std::vector<Family> families(count);
  for (std::size_t i = 0; i < count && !wanted.empty(); ++i) {
    families[i] = find_family(wanted[wanted.size() == 1 ? 0 : i]);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph.nodes[i];
    const bool weighted = (node.op == Op::Conv && node.groups == 1) || node.op == Op::Linear;
    if (!weighted || graph.nodes[node.sources[0]].kind != Kind::Spikes) {
      families[i] = Family::None;
      continue;
    }
    const Layer layer = make_layer(node, edges[node.sources[0]]);
    if (!possible(graph, i, layer, kernels, families[i])) families[i] = cheapest(graph, i, layer, kernels);
  }
  return families;
}

SpikeLayer prepare_spike_layer(const Graph& graph, std::size_t index, const Edge& source, Family family,
                               const Kernels& kernels, Budget& budget) {
  const Node& node = graph.nodes[index];
  const Layer layer = make_layer(node, source);
  const char* what = "prepared weights";
  SpikeLayer prepared;
  const Unpacked unpacked(graph, index, budget);
  if (family == Family::Events) {
    prepared.events = event_plan(layer);
    budget.charge(prepared.events.weight_bytes(), what, &graph, index);
    prepared.event_weights = AlignedBuffer(prepared.events.weight_bytes());
    pack_event_weights(prepared.events, unpacked.values.data(),
                       reinterpret_cast<std::int8_t*>(prepared.event_weights.data()));
  } else {
    const TableSource planes = make_table_source(*kernels.tables, source, node.padding);
    budget.charge(about_table_bytes(node), what, &graph, index);  // and no less while they are planned
    prepared.table = plan_tables(*kernels.tables, planes, table_shape(layer), unpacked.values.data());
    budget.release(about_table_bytes(node));
    budget.charge(table_bytes(prepared.table), what, &graph, index);
    fill_tables(*kernels.tables, prepared.table, unpacked.values.data());
  }
  return prepared;
}

}  // namespace bitspike
