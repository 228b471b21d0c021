// A Lif with the weighted sums it reads: first whatever a whole source edge is prepared into, then tiles of pixels.
#include <algorithm>
#include <cstring>

#include "runner.hpp"

namespace bitspike {
namespace {

constexpr std::size_t kEventBlock = 2 * kEventLanes;  // channels that share a walk over the spikes
constexpr std::size_t kOperationsPerNanosecond = 500;

// Pixels for each part, or channels where that is more even.
struct Division {
  bool pixels;
  std::size_t grain;

  Span of_pixels(std::size_t count, unsigned parts, unsigned part) const {
    return pixels ? split(count, parts, part, grain) : Span{0, count};
  }
  Span of_channels(std::size_t count, unsigned parts, unsigned part) const {
    return pixels ? Span{0, count} : split(count, parts, part, grain);
  }
};

// Largest share that one of `parts` gets.
double imbalance(std::size_t count, std::size_t grain, unsigned parts) {
  const Span first = split(count, parts, 0, grain);
  return static_cast<double>(first.last - first.first) / static_cast<double>(count);
}

Division divide(std::size_t pixels, std::size_t tile, std::size_t channels, std::size_t block, unsigned parts) {
  // Every part that shares channels gathers all pixels for itself.
  const bool by_pixels = imbalance(pixels, tile, parts) <= imbalance(channels, block, parts) * 1.05;
  return {by_pixels, by_pixels ? tile : block};
}

}  // namespace

EventTask Runner::event_task(std::size_t source, std::uint32_t slot, unsigned part, bool narrow) const {
  const SpikeLayer& layer = net_.spike_layers_[source];
  const SpikeLists lists{at<std::uint16_t>(net_.scratch_.positions[slot]), at<std::uint32_t>(net_.scratch_.starts[slot])};
  return {layer.events, lists, reinterpret_cast<const std::int8_t*>(layer.event_weights.data()),
          own<std::uint32_t>(part, net_.scratch_.local.events), narrow};
}

AttentionTask Runner::attention_task(std::size_t source, std::uint32_t slot, unsigned part) const {
  const Node& node = net_.graph_.nodes[source];
  const auto bits = [&](std::size_t i) {
    const Edge& e = edge(node.sources[i]);
    return SpikeBits{pixel(e, 0, 0), e.step_bytes(), e.pixel_bytes};
  };
  return {attention_plan(net_.graph_, source),       bits(0), bits(1), bits(2), at<std::uint8_t>(net_.scratch_.attention[slot]),
          own<std::uint8_t>(part, net_.scratch_.local.attention)};
}

// What all tiles of a Lif read: spike lists, index planes, products of keys and values.
void Runner::prepare_source(std::size_t source, std::uint32_t slot) const {
  const Node& node = net_.graph_.nodes[source];
  if (node.op == Op::Attention) {
    const std::size_t units = attention_task(source, slot, 0).plan.units();
    share(units * 500, [&](unsigned part, unsigned parts) {
      const AttentionTask task = attention_task(source, slot, part);
      const Span mine = split(units, parts, part);
      kernels_.events->attention.prepare(task, mine.first, mine.last);
    });
    return;
  }
  const Family family = net_.families_[source];
  if (family != Family::Events && family != Family::Tables) return;
  const Edge& e = edge(node.sources[0]);
  const std::uint8_t* bits = pixel(e, 0, 0);
  if (family == Family::Events) {
    const EventTask task = event_task(source, slot, 0, false);
    share(e.size() / 2, [&](unsigned part, unsigned parts) {
      const Span lines = split(task.plan.lines(), parts, part);
      kernels_.events->list_spikes(task.plan, {bits, e.step_bytes(), e.pixel_bytes}, task.lists, lines.first, lines.last);
    });
    return;
  }
  const TableSource& planes = net_.spike_layers_[source].table.source;
  share(e.size() / 2, [&](unsigned part, unsigned parts) {
    const Span mine = split(e.pixels(), parts, part, 64);
    kernels_.tables->planes({&planes, bits, at<std::uint8_t>(net_.scratch_.planes[slot]), mine.first,
                             mine.last - mine.first});
  });
}

void Runner::lif(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  std::size_t operations = 32 * node.size() * net_.graph_.time_steps, block = kLanes;
  bool divisible = true;  // into channels
  for (std::uint32_t s = 0; s < node.source_count; ++s) {
    const std::size_t source = node.sources[s];
    prepare_source(source, s);
    if (net_.graph_.nodes[source].kind != Kind::Current) {
      divisible = false;
      continue;
    }
    const Projection& p = net_.projections_[source];
    operations += node.size() * net_.graph_.nodes[source].weight_inputs * net_.graph_.time_steps;
    divisible = divisible && net_.graph_.nodes[source].op != Op::Attention && p.groups == 1;
    if (net_.families_[source] == Family::Events) block = kEventBlock;
  }
  const bool tables = net_.by_tables(node);
  const std::size_t tile = tables ? net_.spike_layers_[node.sources[0]].table.tile_pixels : net_.tile_pixels(node);
  if (tables) block = kTablePackChannels;
  const std::size_t channels = divisible ? node.channels : 1;
  share(operations / kOperationsPerNanosecond, [&](unsigned part, unsigned parts) {
    const Division division = divide(node.pixels(), tile, channels, divisible ? block : 1, parts);
    Piece piece{part, division.of_pixels(node.pixels(), parts, part), {0, node.channels}};
    if (divisible) piece.channels = division.of_channels(node.channels, parts, part);
    if (piece.pixels.first == piece.pixels.last || piece.channels.first == piece.channels.last) return;
    tables ? lif_by_tables(index, piece) : lif_by_tiles(index, piece);
  });
}

// Currents and neurons of a piece, both in the row lanes of the tables.
void Runner::lif_by_tables(std::size_t index, const Piece& piece) const {
  const Edge& out = edge(index);
  const TableLayer& layer = net_.spike_layers_[net_.graph_.nodes[index].sources[0]].table;
  const Span pixels = piece.pixels, channels = piece.channels;
  for (std::size_t first = pixels.first; first < pixels.last; first += layer.tile_pixels) {
    run_table_tile(*kernels_.tables, layer, net_.table_lifs_[index], at<std::uint8_t>(net_.scratch_.planes[0]), first,
                   std::min(layer.tile_pixels, pixels.last - first), channels.first, channels.last - channels.first,
                   own<std::uint8_t>(piece.part, net_.scratch_.local.tables), at<std::uint8_t>(out.offset),
                   out.pixel_bytes);
  }
}

// A tile of pixels at a time: currents of its sources, then its neurons through all steps.
void Runner::lif_by_tiles(std::size_t index, const Piece& piece) const {
  const Node& node = net_.graph_.nodes[index];
  const LifParams& params = net_.lifs_[index];
  const Edge& out = edge(index);
  const std::size_t lanes = round_up(node.channels, kLanes), channel = piece.channels.first;
  const std::size_t tile_pixels = net_.tile_pixels(node);

  LifTask task{};
  task.source_count = node.source_count;
  task.bias = params.bias.data() + channel;
  task.threshold = params.threshold.data() + channel;
  task.shift = params.shift.data() + channel;
  task.limit = (1 << (node.bits - 1)) - 1;
  task.leak_shift = static_cast<std::int32_t>(node.option);
  task.soft_reset = node.soft_reset;
  task.narrow = net_.narrow(node);
  task.steps = out.frames;
  task.channels = piece.channels.last - channel;
  task.out_step_stride = out.step_bytes();
  task.out_pixel_stride = out.pixel_bytes;
  for (std::size_t first = piece.pixels.first; first < piece.pixels.last; first += tile_pixels) {
    task.pixels = std::min(tile_pixels, piece.pixels.last - first);
    task.out = at<std::uint8_t>(out.offset) + first * out.pixel_bytes + channel / 8;
    for (std::uint32_t s = 0; s < node.source_count; ++s) {
      auto* values = own<std::uint8_t>(piece.part, net_.scratch_.local.currents[s]);
      const Tile tile{first, task.pixels, values, lanes, task.narrow};
      const std::size_t frames = source_values(node.sources[s], s, piece, tile);
      const auto& multiplier = params.multipliers[s];
      task.sources[s] = {values + channel * (task.narrow ? 2 : 4), frames * lanes, frames == 1 ? 0 : lanes,
                         multiplier.empty() ? nullptr : multiplier.data() + channel};
    }
    kernels_.lif(task);
  }
}

// Values of one source of a Lif for a tile; returns the frames there are of them.
std::size_t Runner::source_values(std::size_t source, std::uint32_t slot, const Piece& piece, const Tile& tile) const {
  const Node& node = net_.graph_.nodes[source];
  const std::size_t steps = net_.graph_.time_steps;
  if (node.op == Op::Attention) {
    kernels_.events->attention.currents(attention_task(source, slot, piece.part), tile.first, tile.pixels, tile.wide(),
                                        steps * tile.lanes, tile.lanes);
    return steps;
  }
  if (node.kind == Kind::Current) {
    current(source, slot, piece, tile);
    return edge(node.sources[0]).frames;
  }
  const Edge& e = edge(source);
  std::int32_t* values = tile.wide();
  std::memset(values, 0, tile.pixels * steps * tile.lanes * sizeof *values);
  for (std::size_t row = 0; row < tile.pixels * steps; ++row) {
    add_pixels(e, pixel(e, row % steps, tile.first + row / steps), 1, values + row * tile.lanes);
  }
  return steps;
}

}  // namespace bitspike
