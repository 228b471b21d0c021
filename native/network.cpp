#include "network.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "matmul.hpp"

namespace bitspike {
namespace {

constexpr std::size_t kTileBytes = 128 * 1024;  // of currents: they stay in the second-level cache
constexpr std::size_t kMaxTilePixels = 16;
constexpr std::size_t kSlack = 64;  // kernels may read (never use) a few bytes past a region

// Index of the last node whose execution reads each edge. What is not stored is computed when it is read.
std::vector<std::size_t> last_uses(const Graph& graph, const std::vector<Edge>& edges) {
  const std::size_t count = graph.nodes.size();
  std::vector<std::size_t> last(count);
  for (std::size_t i = count; i-- > 0;) {
    const Node& node = graph.nodes[i];
    const std::size_t when = node.fused() && !edges[i].stored ? last[i] : i;
    for (std::uint32_t s = 0; s < node.source_count; ++s) {
      std::size_t& use = last[node.sources[s]];
      use = std::max(use, when);
    }
  }
  return last;
}

// All channels.
bool fits_16_bits(const Node& node) {
  return std::find(node.fits_int16.begin(), node.fits_int16.end(), 0) == node.fits_int16.end();
}

}  // namespace

AttentionPlan attention_plan(const Graph& graph, std::size_t index) {
  const Node& node = graph.nodes[index];
  const Node &query = graph.nodes[node.sources[0]], &value = graph.nodes[node.sources[2]];
  return plan_attention(node.groups, query.channels, value.channels, query.pixels(), value.pixels(), graph.time_steps);
}

Network::Network(std::vector<std::uint8_t> file, const Kernels& kernels, std::uint64_t max_memory,
                 const std::vector<std::string>& families)
    : file_(std::move(file)),
      kernels_(kernels),
      // Sizes are at most 2^60 each; a limit far below lets them be added without a check.
      limit_(std::min(max_memory, std::uint64_t{1} << 48)) {
  Budget budget(limit_);
  budget.charge(file_.size(), "the file");
  graph_ = load_graph({file_.data(), file_.size()}, budget);

  const std::size_t count = graph_.nodes.size();
  edges_ = std::vector<Edge>(count);
  for (std::size_t i = 0; i < count; ++i) edges_[i] = make_edge(graph_.nodes[i], graph_.time_steps);
  for (const Node& node : graph_.nodes) {
    if (node.op == Op::Product) edges_[node.sources[0]].stored = edges_[node.sources[1]].stored = true;
  }
  indices_ = std::vector<std::uint32_t>(count);
  std::iota(indices_.begin(), indices_.end(), 0u);
  families_ = choose_families(graph_, edges_, kernels_, families);
  layers_ = std::vector<Layer>(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Node& node = graph_.nodes[i];
    const Edge& source = edges_[node.sources[0]];
    if (node.op == Op::Conv || node.op == Op::Linear) {
      const bool follows = families_[i] == Family::Events || families_[i] == Family::Tables;
      layers_[i].projection = prepare_projection(graph_, i, source, !follows, budget);
      if (follows) layers_[i].spikes = prepare_spike_layer(graph_, i, source, families_[i], kernels_, budget);
    }
    if (tiled(i) && node.op != Op::Mix) layers_[i].tiles = prepare_tiles(node, budget);
    if (by_tables(node)) {
      layers_[i].table_lif = prepare_table_lif(layers_[node.sources[0]].spikes.table, node, graph_.time_steps);
    }
  }
  readout_ = prepare_readout(graph_, edges_[graph_.readout().sources[0]], budget);
  place_edges();
  place_scratch();
  budget.charge(scratch_.size + scratch_.local.size, "activations");
  memory_bytes_ = budget.used();
}

// Gives every stored edge the lowest place that is free from its node to its last reader.
void Network::place_edges() {
  struct Live {
    std::size_t offset, end, last;
  };
  const std::vector<std::size_t> last = last_uses(graph_, edges_);
  std::vector<Live> live;  // by offset
  for (std::size_t i = 0; i < edges_.size(); ++i) {
    Edge& edge = edges_[i];
    if (!edge.stored) continue;
    if (edge.size() > limit_) {
      fail_at(graph_, i, "activations of ", edge.size(), " bytes exceed the memory limit of ", limit_, " bytes");
    }
    live.erase(std::remove_if(live.begin(), live.end(), [i](const Live& l) { return l.last < i; }), live.end());
    const std::size_t size = round_up(edge.size() + kSlack, kAlignment);
    std::size_t offset = 0;
    auto place = live.begin();
    while (place != live.end() && place->offset - offset < size) offset = (place++)->end;
    edge.offset = offset;
    live.insert(place, {offset, offset + size, last[i]});
    scratch_.size = std::max(scratch_.size, offset + size);
  }
}

// Whether the node is computed tile by tile, and not by those who read it.
bool Network::tiled(std::size_t index) const {
  const Node& node = graph_.nodes[index];
  return node.op == Op::Lif || node.op == Op::Stream || node.op == Op::Mix || (node.fused() && edges_[index].stored);
}

TileSources Network::tile_sources(std::size_t index) const {
  const Node& node = graph_.nodes[index];
  const std::uint32_t* self = indices_.data() + index;
  return node.fused() ? TileSources{self, self + 1} : TileSources{node.sources, node.sources + node.source_count};
}

// Numbers from one step of a tile to the next. The last head of a product writes whole blocks.
std::size_t Network::tile_lanes(std::size_t index) const {
  const Node& node = graph_.nodes[index];
  const auto uneven = [this](std::uint32_t source) {
    const Node& from = graph_.nodes[source];
    return from.op == Op::MatMul && from.channels / from.groups % kLanes != 0;
  };
  const TileSources sources = tile_sources(index);
  const bool extra = std::any_of(sources.begin(), sources.end(), uneven);
  return round_up(node.channels, kLanes) + (extra ? kLanes : 0);
}

std::size_t Network::tile_pixels(std::size_t index) const {
  const Node& node = graph_.nodes[index];
  const std::size_t pixel = tile_lanes(index) * sizeof(std::int32_t) * graph_.time_steps;
  std::size_t most = std::min<std::size_t>(kMaxTilePixels, node.pixels());
  for (const std::uint32_t source : tile_sources(index)) {
    if (families_[source] == Family::Tables) most = std::min(most, layers_[source].spikes.table.tile_pixels);
  }
  return std::clamp<std::size_t>(kTileBytes / pixel, 1, most);
}

// Whether tables compute the neurons of a Lif as well.
bool Network::by_tables(const Node& lif) const {
  const std::uint32_t source = lif.sources[0];
  return lif.op == Op::Lif && lif.source_count == 1 && families_[source] == Family::Tables && inlined(source) &&
         fits_16_bits(lif);
}

// Whether the sums a Lif reads, and its membranes, are kept in 16 bits.
bool Network::narrow(const Node& lif) const {
  bool fits = fits_16_bits(lif);
  for (std::uint32_t s = 0; s < lif.source_count; ++s) {
    const std::uint32_t source = lif.sources[s];
    const Family family = families_[source];
    const bool can = family == Family::Planes || family == Family::Events || graph_.nodes[source].op == Op::MatMul;
    fits = fits && can && inlined(source) && fits_16_bits(graph_.nodes[source]);
  }
  return fits;
}

void Network::place_scratch() {
  Scratch need;  // sizes in bytes, before they become offsets
  const auto grow = [this](std::size_t& size, std::size_t count, std::size_t bytes) {
    const std::uint64_t total = multiply(count, bytes, "activations");
    if (total > limit_) fail("activations: ", total, " bytes exceed the memory limit of ", limit_, " bytes");
    size = std::max<std::size_t>(size, total);
  };
  Scratch::Local& local = need.local;
  for (std::size_t i = 0; i < edges_.size(); ++i) {
    const Node& node = graph_.nodes[i];
    if (node.op == Op::SumPool || node.op == Op::Add || node.op == Op::Reduce || node.op == Op::Product) {
      const std::size_t lanes = std::max(node.channels, graph_.nodes[node.sources[0]].channels);
      grow(local.sums, 2 * round_up(lanes, kLanes), sizeof(std::int32_t));
    }
    if (node.op == Op::Reduce) {  // words of a group of channels each
      const std::size_t words = graph_.nodes[node.sources[0]].channels / node.groups / 32 + 1;
      grow(local.rows, node.groups * words, sizeof(std::uint32_t));
    }
    if (!tiled(i)) continue;
    const std::size_t tile = tile_pixels(i), lanes = tile_lanes(i);
    const TileSources sources = tile_sources(i);
    for (std::uint32_t s = 0; s < sources.size(); ++s) {
      const std::size_t index = sources.first[s];
      const Node& from = graph_.nodes[index];
      const bool computed = from.fused() && (index == i || inlined(index));
      if (!by_tables(node) && (computed || !edges_[index].wide)) {
        grow(local.currents[s], tile * graph_.time_steps * lanes, sizeof(std::int32_t));
      }
      if (!computed) continue;
      if (from.op == Op::Attention) {
        const AttentionPlan plan = attention_plan(graph_, index);
        grow(need.operands[s], plan.shared_bytes(), 1);
        grow(local.attention, plan.local_bytes(), 1);
        continue;
      }
      if (from.op == Op::MatMul) {
        const MatMulPlan plan = matmul_plan(graph_, index);
        grow(need.operands[s], plan.bytes(), 1);
        grow(local.rows, tile * plan.words(), sizeof(std::uint32_t));
        continue;
      }
      if (families_[index] == Family::Tables) {
        const TableLayer& layer = layers_[index].spikes.table;
        grow(need.planes[s], layer.source.bytes, 1);
        grow(local.tables, table_scratch_bytes(*kernels_.tables, layer), 1);
        continue;
      }
      if (families_[index] == Family::Events) {
        const EventPlan& plan = layers_[index].spikes.events;
        grow(need.positions[s], plan.positions_bytes(), 1);
        grow(need.starts[s], plan.starts_bytes(), 1);
        grow(local.events, plan.list_bytes(), 1);
        continue;
      }
      const Projection& p = layers_[index].projection;
      const Edge& source = edges_[p.source];
      const std::size_t rows = tile * source.frames;
      grow(local.rows, rows * p.row_words, sizeof(std::uint32_t));
      grow(local.ones, rows, sizeof(std::int32_t));
      if (p.groups == 1) continue;
      grow(local.expanded, p.taps() * source.lanes(), sizeof(std::int16_t));
      grow(local.group_rows, rows * p.words, sizeof(std::uint32_t));
      grow(local.group_out, rows * p.blocks * kLanes, sizeof(std::int32_t));
    }
  }
  grow(need.features, readout_.features, sizeof(std::int32_t));

  const auto place = [](std::size_t& size, std::size_t bytes) {
    const std::size_t offset = size;
    size += round_up(bytes + kSlack, kAlignment);
    return offset;
  };
  for (std::uint32_t s = 0; s < kMaxSources; ++s) {
    scratch_.positions[s] = place(scratch_.size, need.positions[s]);
    scratch_.starts[s] = place(scratch_.size, need.starts[s]);
    scratch_.planes[s] = place(scratch_.size, need.planes[s]);
    scratch_.operands[s] = place(scratch_.size, need.operands[s]);
    scratch_.local.currents[s] = place(scratch_.local.size, local.currents[s]);
  }
  scratch_.features = place(scratch_.size, need.features);
  std::size_t& size = scratch_.local.size;
  scratch_.local.rows = place(size, local.rows);
  scratch_.local.ones = place(size, local.ones);
  scratch_.local.expanded = place(size, local.expanded);
  scratch_.local.group_rows = place(size, local.group_rows);
  scratch_.local.group_out = place(size, local.group_out);
  scratch_.local.events = place(size, local.events);
  scratch_.local.tables = place(size, local.tables);
  scratch_.local.attention = place(size, local.attention);
  scratch_.local.sums = place(size, local.sums);
}

AlignedBuffer Network::take_scratch(unsigned threads) const {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (auto idle = idle_.begin(); idle != idle_.end(); ++idle) {
      if (idle->threads != threads) continue;
      AlignedBuffer buffer = std::move(idle->buffer);
      idle_.erase(idle);
      return buffer;
    }
  }
  return AlignedBuffer(scratch_.size + threads * scratch_.local.size);
}

void Network::return_scratch(unsigned threads, AlignedBuffer buffer) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back({threads, std::move(buffer)});
}

std::vector<std::size_t> Network::lif_nodes() const {
  const auto fires = [](const Node& node) { return node.fires(); };
  std::vector<std::size_t> indices(
      static_cast<std::size_t>(std::count_if(graph_.nodes.begin(), graph_.nodes.end(), fires)));
  auto next = indices.begin();
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    if (fires(graph_.nodes[i])) *next++ = i;
  }
  return indices;
}

std::uint32_t Network::self_test() const {
  const std::size_t sample = graph_.sample_size(), classes = graph_.readout().channels;
  const std::size_t logits_at = sample + padding(sample, 4), record = logits_at + (classes + 1) * 4;
  std::vector<std::int32_t> logits(classes);
  const std::vector<std::size_t> lifs = lif_nodes();
  std::vector<std::vector<std::uint8_t>> spikes(lifs.size());
  Outputs outputs;
  outputs.logits = logits.data();
  outputs.spikes = std::vector<std::uint8_t*>(lifs.size());
  Budget budget(limit_);
  for (std::size_t i = 0; i < lifs.size(); ++i) {
    const std::uint64_t size = graph_.time_steps * graph_.nodes[lifs[i]].size();
    budget.charge(size, "spikes of its test vectors", &graph_, lifs[i]);
    spikes[i] = std::vector<std::uint8_t>(size);
    outputs.spikes[i] = spikes[i].data();
  }

  for (std::uint32_t i = 0; i < graph_.test_vectors.count; ++i) {
    const std::uint8_t* data = graph_.test_vectors.body.data + i * record;
    run(data, 1, outputs);
    if (std::memcmp(logits.data(), data + logits_at, classes * 4) != 0) {
      fail("TESTVEC: the logits of test vector ", i, " differ from the stored ones");
    }
    std::uint32_t crc = 0, stored;
    for (const auto& s : spikes) crc = crc32c({s.data(), s.size()}, crc);
    std::memcpy(&stored, data + logits_at + classes * 4, sizeof stored);
    if (crc != stored) fail("TESTVEC: the spikes of test vector ", i, " differ from the stored checksum");
  }
  return graph_.test_vectors.count;
}

}  // namespace bitspike
