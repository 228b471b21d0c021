// Currents of Conv and Linear nodes, one tile of output pixels at a time.
#include <algorithm>
#include <cstring>

#include "runner.hpp"

namespace bitspike {
namespace {

// These write whole 32-byte pieces, so up to 31 bytes more than asked for: both sides have slack, and rows are written
// from front to back.
inline void copy_fast(std::uint8_t* to, const std::uint8_t* from, std::size_t size) {
  for (std::size_t i = 0; i < size; i += 32) std::memcpy(to + i, from + i, 32);
}
inline void zero_fast(std::uint8_t* to, std::size_t size) {
  for (std::size_t i = 0; i < size; i += 32) std::memset(to + i, 0, 32);
}

}  // namespace

// Weighted sums of a tile, by the family of kernels that was chosen.
void Runner::current(std::size_t source, std::uint32_t slot, const Piece& piece, const Tile& tile) const {
  const Projection& p = net_.layers_[source].projection;
  const std::size_t frames = edge(p.source).frames, row_count = tile.pixels * frames;
  const Span channels = piece.channels;
  if (net_.families_[source] == Family::Events) {
    constexpr std::size_t block = 2 * kEventLanes;
    kernels_.events->event_rows(event_task(source, slot, piece.part, tile.narrow), tile.first, tile.pixels, channels.first / block,
                                (channels.last + block - 1) / block, {tile.out, frames * tile.lanes, tile.lanes});
    return;
  }
  if (net_.families_[source] == Family::Tables) {
    run_table_currents(*kernels_.tables, net_.layers_[source].spikes.table,
                       at<std::uint8_t>(net_.scratch_.planes[slot]), tile.first, tile.pixels, channels.first,
                       channels.last - channels.first, own<std::uint8_t>(piece.part, net_.scratch_.local.tables),
                       tile.wide(), tile.lanes);
    return;
  }
  auto* rows = own<std::uint32_t>(piece.part, net_.scratch_.local.rows);
  for (std::size_t i = 0; i < tile.pixels; ++i) {
    gather(p, tile.first + i, reinterpret_cast<std::uint8_t*>(rows + i * frames * p.row_words));
  }
  if (p.groups > 1) {
    grouped(p, piece.part, row_count, tile.wide(), tile.lanes);
    return;
  }
  auto* ones = p.counts_ones ? own<std::int32_t>(piece.part, net_.scratch_.local.ones) : nullptr;
  if (ones) kernels_.count_ones(rows, row_count, p.words, ones);
  const std::size_t first = channels.first / kLanes, last = (channels.last + kLanes - 1) / kLanes;
  const std::size_t block_bytes = kLanes * (tile.narrow ? sizeof(std::int16_t) : sizeof(std::int32_t));
  auto* out = static_cast<std::uint8_t*>(tile.out) + first * block_bytes;
  DotTask task{p.group_weights(0) + first * p.block_words(), p.planes, rows, row_count, p.words, ones, out, tile.lanes,
               tile.narrow};
  const auto dot = p.path == Projection::Path::Bits ? kernels_.dot_bits : kernels_.dot_values;
  for (std::size_t block = first; block < last; ++block) {
    dot(task);
    task.weights += p.block_words();
    task.out = out += block_bytes;
  }
}

// One row per frame: what an output pixel sees, [tap][pixel bytes], zero where the window leaves the source.
void Runner::gather(const Projection& p, std::size_t out_pixel, std::uint8_t* rows) const {
  const Edge& e = edge(p.source);
  const auto height = static_cast<std::int64_t>(e.height), width = static_cast<std::int64_t>(e.width);
  const auto kernel_height = static_cast<std::int64_t>(p.kernel_height);
  const auto kernel_width = static_cast<std::int64_t>(p.kernel_width);
  const auto padding = static_cast<std::int64_t>(p.padding);
  const std::int64_t top = static_cast<std::int64_t>(out_pixel / p.out_width * p.stride) - padding;
  const std::int64_t left = static_cast<std::int64_t>(out_pixel % p.out_width * p.stride) - padding;
  // The part of the window that lies on the source.
  const std::int64_t first_line = std::max<std::int64_t>(0, -top), end_line = std::min(kernel_height, height - top);
  const std::int64_t first_tap = std::max<std::int64_t>(0, -left), end_tap = std::min(kernel_width, width - left);

  const std::size_t line = p.kernel_width * e.pixel_bytes, pitch = e.width * e.pixel_bytes;
  const std::size_t before = static_cast<std::size_t>(first_tap) * e.pixel_bytes;
  const std::size_t bytes = static_cast<std::size_t>(end_tap - first_tap) * e.pixel_bytes, after = line - before - bytes;
  const std::size_t lines = static_cast<std::size_t>(end_line - first_line), above = static_cast<std::size_t>(first_line);
  const bool contiguous = bytes == pitch;  // a Linear, most often
  const std::uint8_t* from = pixel(e, 0, static_cast<std::size_t>((top + first_line) * width + left + first_tap));
  for (std::size_t frame = 0; frame < e.frames; ++frame, rows += p.row_words * 4, from += e.step_bytes()) {
    std::uint8_t* to = rows;
    if (above) zero_fast(to, above * line);
    to += above * line;
    if (contiguous && line == pitch) {
      copy_fast(to, from, lines * line);
      to += lines * line;
    } else {
      for (std::size_t y = 0; y < lines; ++y, to += line) {
        if (before) zero_fast(to, before);
        copy_fast(to + before, from + y * pitch, bytes);
        if (after) zero_fast(to + before + bytes, after);
      }
    }
    if (to < rows + p.row_bytes) zero_fast(to, static_cast<std::size_t>(rows + p.row_bytes - to));
    for (std::size_t i = p.row_bytes; i < p.row_words * 4; ++i) rows[i] = 0;
  }
}

// Grouped convolutions work on 16-bit values, spikes included.
void Runner::grouped(const Projection& p, unsigned part, std::size_t row_count, std::int32_t* out,
                     std::size_t lanes) const {
  const Edge& e = edge(p.source);
  const std::size_t taps = p.taps(), stride = e.lanes();
  auto* group_rows = own<std::uint32_t>(part, net_.scratch_.local.group_rows);
  auto* group_out = own<std::int32_t>(part, net_.scratch_.local.group_out);
  const auto values_of = [&](std::size_t r) -> const std::int16_t* {
    const auto* row = own<std::uint8_t>(part, net_.scratch_.local.rows) + r * p.row_words * 4;
    if (!e.bits) return reinterpret_cast<const std::int16_t*>(row);
    auto* expanded = own<std::int16_t>(part, net_.scratch_.local.expanded);
    for (std::size_t i = 0; i < p.row_bytes; ++i) {
      for (std::size_t bit = 0; bit < 8; ++bit) expanded[8 * i + bit] = static_cast<std::int16_t>((row[i] >> bit) & 1);
    }
    return expanded;
  };
  if (p.path == Projection::Path::Depthwise) {
    const auto* weights = reinterpret_cast<const std::int16_t*>(p.weights.data());
    for (std::size_t r = 0; r < row_count; ++r) {
      kernels_.depthwise(weights, values_of(r), taps, stride, lanes, out + r * lanes);
    }
    return;
  }
  const std::size_t slice = p.group_inputs * sizeof(std::int16_t), group_lanes = p.blocks * kLanes;
  for (std::size_t group = 0; group < p.groups; ++group) {
    for (std::size_t r = 0; r < row_count; ++r) {
      const std::int16_t* values = values_of(r) + group * p.group_inputs;
      auto* to = reinterpret_cast<std::int16_t*>(group_rows + r * p.words);
      to[2 * p.words - 1] = 0;
      for (std::size_t tap = 0; tap < taps; ++tap) {
        std::memcpy(to + tap * p.group_inputs, values + tap * stride, slice);
      }
    }
    DotTask task{p.group_weights(group), 1, group_rows, row_count, p.words, nullptr, group_out, group_lanes, false};
    for (std::size_t block = 0; block < p.blocks; ++block) {
      task.out = group_out + block * kLanes;
      kernels_.dot_values(task);
      task.weights += p.block_words();
    }
    for (std::size_t r = 0; r < row_count; ++r) {
      std::memcpy(out + r * lanes + group * p.group_outputs, group_out + r * group_lanes,
                  p.group_outputs * sizeof *out);
    }
  }
}

}  // namespace bitspike
