// Table layers: which sums fit a byte, and the numbers that go into the tables.
#include "tables.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace bitspike {
namespace {

constexpr int kByteMax = 255;
constexpr std::size_t kTileRows = 256;
// Tables beyond the second-level cache are read once per tile, so that tiles are larger there.
constexpr std::size_t kNearTables = 640 * 1024, kFarTileRows = 1024;
constexpr std::size_t kFarIndices = 384 * 1024;  // which leave room for tables there
// 256 rows of so many indices stay in a first-level cache of 32 KiB while tables pass through it.
constexpr std::size_t kBlockLookups = 90;
// Pixel coordinates, padding included, are compared as 16-bit numbers.
constexpr std::size_t kMaxSide = 16384;

// A flush turns byte sums into 16-bit ones; it costs about as much as this many lookups.
constexpr double kFlushCost = 1.5;

struct Split {
  std::size_t planes = 1, shift = 0;

  // The part of a weight that column `plane` of its channel holds.
  int part(int weight, std::size_t plane) const {
    if (planes == 1) return weight;
    const int unit = 1 << shift;
    const int high = (weight + unit / 2) >> shift;  // rounded, so that the remainder is within +-unit / 2
    return plane == 0 ? weight - high * unit : high;
  }
};

// Weights in the order of lookups: visit(channel, lookup, bit, weight).
template <class F>
void each_weight(const TableLayer& layer, std::size_t group, std::size_t source_channels, const std::int8_t* weights,
                 F visit) {
  const std::size_t taps = layer.kernel_height * layer.kernel_width;
  for (std::size_t m = 0; m < layer.channels; ++m) {
    for (std::size_t c = 0; c < source_channels; ++c) {
      for (std::size_t tap = 0; tap < taps; ++tap) {
        visit(m, tap * layer.source.groups + c / group, c % group, int{*weights++});
      }
    }
  }
}

// Greedy runs of lookups per tile of columns and block; empty where a single lookup overflows a byte.
struct Runs {
  std::vector<std::uint32_t> first, lengths;
};

Runs find_runs(const TableLayer& layer, const std::vector<std::uint16_t>& sizes, std::size_t tiles,
               std::size_t columns) {
  Runs runs;
  std::vector<int> sums(columns);
  for (std::size_t tile = 0; tile < tiles; ++tile) {
    std::uint32_t length = 0;
    const auto end_run = [&] {
      runs.lengths.push_back(length);
      std::fill(sums.begin(), sums.end(), 0);
      length = 0;
    };
    for (std::size_t k = 0; k < layer.lookups; ++k) {
      const auto size = [&](std::size_t column) { return int{sizes[(tile * columns + column) * layer.lookups + k]}; };
      bool fits = true;
      for (std::size_t i = 0; i < columns; ++i) {
        if (size(i) > kByteMax) return {};
        fits = fits && sums[i] + size(i) <= kByteMax;
      }
      const bool new_block = k % layer.block_lookups == 0;
      if (length != 0 && (!fits || new_block)) end_run();
      if (new_block) runs.first.push_back(static_cast<std::uint32_t>(runs.lengths.size()));
      for (std::size_t i = 0; i < columns; ++i) sums[i] += size(i);
      ++length;
    }
    end_run();
  }
  runs.first.push_back(static_cast<std::uint32_t>(runs.lengths.size()));
  return runs;
}

// Whether the carried membrane of some channel may reach its limit within `steps` steps.
bool may_clip(const TableLayer& layer, const Node& node, std::size_t steps) {
  const std::int64_t limit = (std::int64_t{1} << (node.bits - 1)) - 1;
  for (std::size_t c = 0; c < layer.channels; ++c) {
    const std::int64_t multiplier = node.params[0][c], bias = node.params[1][c], threshold = node.params[2][c];
    const std::int64_t shift = node.params[3][c], half = (std::int64_t{1} << shift) >> 1;
    const std::int64_t a = multiplier * layer.low[c] + bias, b = multiplier * layer.high[c] + bias;
    std::int64_t low = 0, high = 0;  // of the carry
    for (std::size_t t = 0; t < steps; ++t) {
      if (node.option != 0) {
        low -= low >> node.option;
        high -= high >> node.option;
      }
      low += std::min(a, b);
      high += std::max(a, b);
      if (high >= threshold) {  // some spike: what remains of the membrane
        const std::int64_t silent = std::min(high, threshold - 1);
        const std::int64_t least = node.soft_reset ? std::max(low, threshold) - threshold : 0;
        high = std::max(silent, node.soft_reset ? high - threshold : 0);
        low = std::min(low, least);
      }
      low = (low + half) >> shift;
      high = (high + half) >> shift;
      if (low < -limit || high > limit) return true;
      low *= std::int64_t{1} << shift;
      high *= std::int64_t{1} << shift;
    }
  }
  return false;
}

}  // namespace

TableSource make_table_source(const TableKernels& kernels, const Edge& edge, std::size_t padding) {
  TableSource s;
  s.steps = edge.frames;
  s.channels = edge.channels;
  s.height = edge.height;
  s.width = edge.width;
  s.pixel_bytes = edge.pixel_bytes;
  s.groups = (edge.channels + kernels.group - 1) / kernels.group;
  // A window may start `padding` lines and columns outside; whole vectors are loaded and masked.
  const std::size_t outside = padding * (edge.width + 1) + 64;
  s.front = round_up(outside, kAlignment);
  s.bytes = s.front + round_up(s.groups * s.plane() + outside + 64, kAlignment);
  return s;
}

bool tables_accept(const TableSource& source, const TableShape& shape) {
  const std::size_t largest = std::max({source.height, source.width, shape.out_height, shape.out_width,
                                        shape.kernel_height, shape.kernel_width, shape.padding});
  return largest <= kMaxSide && source.steps * source.pixels() < (std::size_t{1} << 30) && source.steps <= 256;
}

TableLayer plan_tables(const TableKernels& kernels, const TableSource& source, const TableShape& shape,
                       const std::int8_t* weights) {
  TableLayer layer;
  layer.source = source;
  layer.channels = shape.channels;
  layer.out_height = shape.out_height;
  layer.out_width = shape.out_width;
  layer.kernel_height = shape.kernel_height;
  layer.kernel_width = shape.kernel_width;
  layer.stride = shape.stride;
  layer.padding = shape.padding;
  layer.lookups = shape.kernel_height * shape.kernel_width * source.groups;

  layer.blocks = (layer.lookups + kBlockLookups - 1) / kBlockLookups;
  layer.block_lookups = (layer.lookups + layer.blocks - 1) / layer.blocks;
  layer.blocks = (layer.lookups + layer.block_lookups - 1) / layer.block_lookups;
  layer.lookup_bytes = kernels.lookup_bytes;

  // One plane of whole weights, or two of about half their bits: whichever needs less time for these weights.
  double best = 0;
  for (const Split split : {Split{1, 0}, Split{2, 3}, Split{2, 4}}) {
    const std::size_t tiles = round_up(layer.channels * split.planes, kernels.columns) / kernels.columns;
    std::vector<std::uint16_t> sizes(tiles * kernels.columns * layer.lookups);
    each_weight(layer, kernels.group, source.channels, weights, [&](std::size_t m, std::size_t k, std::size_t, int w) {
      for (std::size_t plane = 0; plane < split.planes; ++plane) {
        auto& size = sizes[(m * split.planes + plane) * layer.lookups + k];
        size = static_cast<std::uint16_t>(size + std::abs(split.part(w, plane)));
      }
    });
    Runs runs = find_runs(layer, sizes, tiles, kernels.columns);
    if (runs.first.empty()) continue;
    const double flushes = static_cast<double>(runs.lengths.size());
    const double cost = static_cast<double>(tiles * layer.lookups) + kFlushCost * flushes;
    if (best != 0 && cost >= best) continue;
    best = cost;
    layer.planes = split.planes;
    layer.shift = split.shift;
    layer.tiles = tiles;
    layer.first_run = std::move(runs.first);
    layer.runs = std::move(runs.lengths);
  }

  // Whole images while they are small; else tiles whose steps start at a vector.
  layer.lanes = kernels.lanes;
  const std::size_t pixels = layer.out_pixels();
  std::size_t rows = kTileRows;
  if (table_bytes(layer) > kNearTables) rows = std::clamp(kFarIndices / layer.lookups, kTileRows, kFarTileRows);
  if (pixels * source.steps <= rows) {
    layer.tile_pixels = pixels;
  } else {
    layer.tile_pixels = std::min(pixels, std::max(rows / source.steps / layer.lanes, std::size_t{1}) * layer.lanes);
  }
  layer.vectors = round_up(layer.tile_pixels * source.steps, layer.lanes) / layer.lanes;

  // Each table is shifted up by the sum of its negative entries.
  const Split split{layer.planes, layer.shift};
  std::vector<std::int64_t> lifted(layer.channels);
  layer.low = std::vector<std::int64_t>(layer.channels);
  layer.high = std::vector<std::int64_t>(layer.channels);
  each_weight(layer, kernels.group, source.channels, weights, [&](std::size_t m, std::size_t, std::size_t, int w) {
    (w > 0 ? layer.high : layer.low)[m] += w;
    for (std::size_t plane = 0; plane < split.planes; ++plane) {
      lifted[m] += std::int64_t{std::max(0, -split.part(w, plane))} << (plane * split.shift);
    }
  });
  layer.start = std::vector<std::int16_t>(layer.channels);
  layer.currents_fit_int16 = true;
  for (std::size_t m = 0; m < layer.channels; ++m) {
    layer.start[m] = static_cast<std::int16_t>(-lifted[m]);
    if (layer.high[m] > INT16_MAX || layer.low[m] < INT16_MIN) layer.currents_fit_int16 = false;
  }
  return layer;
}

std::size_t table_bytes(const TableLayer& layer) { return layer.tiles * layer.tile_bytes() + kAlignment; }

void fill_tables(const TableKernels& kernels, TableLayer& layer, const std::int8_t* weights) {
  layer.tables = AlignedBuffer(table_bytes(layer));
  std::memset(layer.tables.data(), 0, table_bytes(layer));
  const Split split{layer.planes, layer.shift};
  const std::size_t taps = layer.kernel_height * layer.kernel_width, inputs = taps * layer.source.channels;
  std::vector<std::int8_t> tile(kernels.columns * layer.lookups * kernels.group);
  for (std::size_t t = 0; t < layer.tiles; ++t) {
    std::fill(tile.begin(), tile.end(), std::int8_t{0});
    for (std::size_t column = 0; column < kernels.columns; ++column) {
      const std::size_t m = (t * kernels.columns + column) / layer.planes;
      const std::size_t plane = (t * kernels.columns + column) % layer.planes;
      if (m >= layer.channels) break;
      for (std::size_t c = 0; c < layer.source.channels; ++c) {
        for (std::size_t tap = 0; tap < taps; ++tap) {
          const std::size_t k = tap * layer.source.groups + c / kernels.group;
          tile[(column * layer.lookups + k) * kernels.group + c % kernels.group] =
              static_cast<std::int8_t>(split.part(weights[m * inputs + c * taps + tap], plane));
        }
      }
    }
    for (std::size_t block = 0; block < layer.blocks; ++block) {
      kernels.fill(tile.data() + block * layer.block_lookups * kernels.group, layer.lookups, layer.lookups_in(block),
                   layer.tables.data() + layer.place(t, block));
    }
  }
}

TableLif prepare_table_lif(const TableLayer& layer, const Node& node, std::size_t steps) {
  const auto low = [](std::int64_t value) { return static_cast<std::int16_t>(static_cast<std::uint64_t>(value)); };
  TableLif lif;
  const std::vector<std::int32_t>&multiplier = node.params[0], &bias = node.params[1], &shift = node.params[3];
  const bool scaled = std::any_of(multiplier.begin(), multiplier.end(), [](std::int32_t x) { return x != 1; });
  const std::size_t channels = layer.channels, factors = scaled ? channels : 0;
  lif.start = std::vector<std::int16_t>(channels);
  lif.threshold = std::vector<std::int16_t>(channels);
  lif.multiplier = std::vector<std::int16_t>(factors);
  lif.bias = std::vector<std::int16_t>(factors);
  for (std::size_t c = 0; c < channels; ++c) {
    lif.start[c] = low(std::int64_t{layer.start[c]} + (scaled ? 0 : bias[c]));
    lif.threshold[c] = low(node.params[2][c]);
    if (!scaled) continue;
    lif.multiplier[c] = low(multiplier[c]);
    lif.bias[c] = low(bias[c]);
  }
  if (std::any_of(shift.begin(), shift.end(), [](std::int32_t x) { return x != 0; })) {
    lif.shift = std::vector<std::uint8_t>(shift.begin(), shift.end());
  }
  lif.limit = low((std::int64_t{1} << (node.bits - 1)) - 1);
  lif.leak_shift = static_cast<std::int32_t>(node.option);
  lif.soft_reset = node.soft_reset;
  lif.clips = may_clip(layer, node, steps);
  return lif;
}

}  // namespace bitspike
