// A Lif, Stream or Mix with the sums it reads: first whatever a whole source edge is prepared into, then tiles of pixels.
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

// Spikes where a weighted sum of the steps so far reaches the step's threshold: weight (steps, steps), threshold (steps).
void mix(const TileTask& task, const std::int32_t* weight, const std::int32_t* threshold) {
  const TileSource& source = task.sources[0];
  for (std::size_t p = 0; p < task.pixels; ++p) {
    const auto* values = static_cast<const std::int32_t*>(source.values) + p * source.pixel_stride;
    for (std::size_t t = 0; t < task.steps; ++t) {
      std::uint8_t* out = task.out + p * task.out_pixel_stride + t * task.out_step_stride;
      std::memset(out, 0, (task.channels + 7) / 8);
      for (std::size_t c = 0; c < task.channels; ++c) {
        std::uint32_t sum = 0;  // may leave 32 bits on the way
        for (std::size_t j = 0; j <= t; ++j) {
          sum += static_cast<std::uint32_t>(weight[t * task.steps + j]) *
                 static_cast<std::uint32_t>(values[j * source.step_stride + c]);
        }
        const bool spike = static_cast<std::int32_t>(sum) >= threshold[t];
        out[c / 8] = static_cast<std::uint8_t>(out[c / 8] | (unsigned{spike} << (c % 8)));
      }
    }
  }
}

}  // namespace

EventTask Runner::event_task(std::size_t source, std::uint32_t slot, unsigned part, bool narrow) const {
  const SpikeLayer& layer = net_.layers_[source].spikes;
  const SpikeLists lists{at<std::uint16_t>(net_.scratch_.positions[slot]), at<std::uint32_t>(net_.scratch_.starts[slot])};
  return {layer.events, lists, reinterpret_cast<const std::int8_t*>(layer.event_weights.data()),
          own<std::uint32_t>(part, net_.scratch_.local.events), narrow};
}

AttentionTask Runner::attention_task(std::size_t source, std::uint32_t slot, unsigned part) const {
  const Node& node = net_.graph_.nodes[source];
  return {attention_plan(net_.graph_, source), spike_bits(node.sources[0]), spike_bits(node.sources[1]),
          spike_bits(node.sources[2]), at<std::uint8_t>(net_.scratch_.operands[slot]),
          own<std::uint8_t>(part, net_.scratch_.local.attention)};
}

// What all tiles of a node read: spike lists, index planes, products of keys and values, packed matrices.
void Runner::prepare_source(std::size_t source, std::uint32_t slot) const {
  const Node& node = net_.graph_.nodes[source];
  if (node.op == Op::MatMul) {
    pack_operands(source, slot);
    return;
  }
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
  const TableSource& planes = net_.layers_[source].spikes.table.source;
  share(e.size() / 2, [&](unsigned part, unsigned parts) {
    const Span mine = split(e.pixels(), parts, part, 64);
    kernels_.tables->planes({&planes, bits, at<std::uint8_t>(net_.scratch_.planes[slot]), mine.first,
                             mine.last - mine.first});
  });
}

void Runner::compute(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const TileSources sources = net_.tile_sources(index);
  std::size_t operations = 32 * node.size() * net_.graph_.time_steps, block = kLanes;
  bool divisible = true;  // into channels
  for (std::uint32_t s = 0; s < sources.size(); ++s) {
    const std::size_t source = sources.first[s];
    const Node& from = net_.graph_.nodes[source];
    if (source != index && !net_.inlined(source)) {
      divisible = divisible && edge(source).wide;
      continue;
    }
    prepare_source(source, s);
    const bool weighted = from.op == Op::Conv || from.op == Op::Linear;
    operations += node.size() * (weighted ? from.weight_inputs : edge(from.sources[0]).channels) * net_.graph_.time_steps;
    divisible = divisible && weighted && net_.layers_[source].projection.groups == 1;
    if (net_.families_[source] == Family::Events) block = kEventBlock;
  }
  const bool tables = net_.by_tables(node);
  const std::size_t tile = tables ? net_.layers_[node.sources[0]].spikes.table.tile_pixels : net_.tile_pixels(index);
  if (tables) block = kTablePackChannels;
  const std::size_t channels = divisible ? node.channels : 1;
  share(operations / kOperationsPerNanosecond, [&](unsigned part, unsigned parts) {
    const Division division = divide(node.pixels(), tile, channels, divisible ? block : 1, parts);
    Piece piece{part, division.of_pixels(node.pixels(), parts, part), {0, node.channels}};
    if (divisible) piece.channels = division.of_channels(node.channels, parts, part);
    if (piece.pixels.first == piece.pixels.last || piece.channels.first == piece.channels.last) return;
    tables ? lif_by_tables(index, piece) : compute_tiles(index, piece);
  });
}

// Currents and neurons of a piece, both in the row lanes of the tables.
void Runner::lif_by_tables(std::size_t index, const Piece& piece) const {
  const Edge& out = edge(index);
  const TableLayer& layer = net_.layers_[net_.graph_.nodes[index].sources[0]].spikes.table;
  const Span pixels = piece.pixels, channels = piece.channels;
  for (std::size_t first = pixels.first; first < pixels.last; first += layer.tile_pixels) {
    run_table_tile(*kernels_.tables, layer, net_.layers_[index].table_lif, at<std::uint8_t>(net_.scratch_.planes[0]), first,
                   std::min(layer.tile_pixels, pixels.last - first), channels.first, channels.last - channels.first,
                   own<std::uint8_t>(piece.part, net_.scratch_.local.tables), at<std::uint8_t>(out.offset),
                   out.pixel_bytes);
  }
}

// A tile of pixels at a time: values of its sources, then what they give at all steps.
void Runner::compute_tiles(std::size_t index, const Piece& piece) const {
  const Node& node = net_.graph_.nodes[index];
  const TileParams& params = net_.layers_[index].tiles;
  const TileSources sources = net_.tile_sources(index);
  const Edge& out = edge(index);
  const std::size_t lanes = net_.tile_lanes(index), channel = piece.channels.first;
  const std::size_t tile_pixels = net_.tile_pixels(index);
  const bool lif = node.op == Op::Lif, stream = node.op == Op::Stream, narrow = lif && net_.narrow(node);

  TileTask task{};
  task.source_count = sources.size();
  task.steps = out.frames;
  task.channels = piece.channels.last - channel;
  task.out_step_stride = out.step_bytes();
  task.out_pixel_stride = out.pixel_bytes;
  const std::int32_t *bias = params.bias.data() + channel, *shift = params.shift.data() + channel;
  const std::int32_t limit = lif || stream ? (1 << (node.bits - 1)) - 1 : INT32_MAX;
  const auto leak = static_cast<std::int32_t>(node.option);
  for (std::size_t first = piece.pixels.first; first < piece.pixels.last; first += tile_pixels) {
    task.pixels = std::min(tile_pixels, piece.pixels.last - first);
    task.out = at<std::uint8_t>(out.offset) + first * out.pixel_bytes + (out.wide ? 4 * channel : channel / 8);
    for (std::uint32_t s = 0; s < sources.size(); ++s) {
      auto* values = own<std::uint8_t>(piece.part, net_.scratch_.local.currents[s]);
      task.sources[s] = source_values(index, s, piece, {first, task.pixels, values, lanes, narrow});
      const auto& multiplier = params.multipliers[s];
      if (multiplier.empty()) continue;
      task.sources[s].multiplier = multiplier.data() + channel;
      if (stream && node.option > 1) task.sources[s].multiplier_stride = multiplier.size() / node.option;
    }
    if (lif) {
      kernels_.lif({task, bias, params.threshold.data() + channel, shift, limit, leak, node.soft_reset, narrow});
    } else if (node.op == Op::Mix) {
      mix(task, node.params[0].data(), node.params[1].data());
    } else {
      kernels_.stream({task, bias, shift, limit});
    }
  }
}

// Values of one source of a node for a tile, from the piece's first channel on.
TileSource Runner::source_values(std::size_t index, std::uint32_t slot, const Piece& piece, const Tile& tile) const {
  const std::size_t source = net_.tile_sources(index).first[slot], channel = piece.channels.first;
  const Node& node = net_.graph_.nodes[source];
  const Edge& e = edge(source);
  std::size_t frames = net_.graph_.time_steps;
  if (source == index || net_.inlined(source)) {
    if (node.op == Op::Attention) {
      kernels_.events->attention.currents(attention_task(source, slot, piece.part), tile.first, tile.pixels,
                                          tile.wide(), frames * tile.lanes, tile.lanes);
    } else if (node.op == Op::MatMul) {
      multiply_tile(source, slot, piece.part, tile);
    } else {
      current(source, slot, piece, tile);
      frames = edge(node.sources[0]).frames;
    }
  } else if (e.wide) {
    const auto* values = reinterpret_cast<const std::int32_t*>(pixel(e, 0, tile.first)) + channel;
    return {values, e.channels, e.pixels() * e.channels, nullptr, 0};
  } else {
    frames = e.frames;
    std::int32_t* values = tile.wide();
    std::memset(values, 0, tile.pixels * frames * tile.lanes * sizeof *values);
    for (std::size_t row = 0; row < tile.pixels * frames; ++row) {
      add_pixels(e, pixel(e, row % frames, tile.first + row / frames), 1, values + row * tile.lanes);
    }
  }
  const auto* values = static_cast<const std::uint8_t*>(tile.out) + channel * (tile.narrow ? 2 : 4);
  return {values, frames * tile.lanes, frames == 1 ? 0 : tile.lanes, nullptr, 0};
}

}  // namespace bitspike
