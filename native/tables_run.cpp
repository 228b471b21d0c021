// One tile of output pixels through all steps of the table path.
#include <algorithm>
#include <cstring>

#include "tables.hpp"

namespace bitspike {
namespace {

struct Scratch {
  std::size_t maps, indices, sums, currents, masks, size;
};

Scratch layout(const TableKernels& kernels, const TableLayer& layer) {
  Scratch at{};
  const auto place = [&](std::size_t bytes) {
    const std::size_t offset = at.size;
    at.size += round_up(bytes + kAlignment, kAlignment);
    return offset;
  };
  const std::size_t steps = layer.source.steps, blocks = (layer.tile_pixels + 31) / 32;
  at.maps = place(kernels.map_bytes);
  at.indices = place(layer.row_stride() * layer.lookups);
  at.sums = place(2 * kTablePass * kernels.columns * kTableChunk * kernels.lanes);
  at.currents = place(kTableLifChannels * layer.row_stride() * sizeof(std::int16_t));
  at.masks = place(kTablePackChannels * steps * blocks * sizeof(std::uint32_t));
  return at;
}

std::size_t rows_to_vectors(const TableLayer& layer, std::size_t pixels) {
  return (pixels * layer.source.steps + layer.lanes - 1) / layer.lanes;
}

}  // namespace

std::size_t table_scratch_bytes(const TableKernels& kernels, const TableLayer& layer) {
  return layout(kernels, layer).size;
}

void run_table_tile(const TableKernels& kernels, const TableLayer& layer, const TableLif& lif,
                    const std::uint8_t* planes, std::size_t first, std::size_t pixels, std::size_t first_channel,
                    std::size_t channels, std::uint8_t* scratch, std::uint8_t* out, std::size_t pixel_bytes) {
  const Scratch at = layout(kernels, layer);
  const std::size_t steps = layer.source.steps, blocks = (pixels + 31) / 32;
  auto* currents = reinterpret_cast<std::int16_t*>(scratch + at.currents);
  auto* masks = reinterpret_cast<std::uint32_t*>(scratch + at.masks);
  kernels.gather({&layer, planes, first, pixels, scratch + at.maps, scratch + at.indices});
  const std::size_t vectors = rows_to_vectors(layer, pixels);
  for (std::size_t outer = 0; outer < channels; outer += kTablePackChannels) {
    const std::size_t packed = std::min(kTablePackChannels, channels - outer);
    for (std::size_t inner = 0; inner < packed; inner += kTableLifChannels) {
      const std::size_t count = std::min(kTableLifChannels, packed - inner), channel = first_channel + outer + inner;
      kernels.dot({&layer, scratch + at.indices, vectors, channel, count, lif.start.data(), scratch + at.sums,
                   currents});
      kernels.lif({&lif, channel, count, currents, layer.row_stride(), steps, pixels, masks + inner * steps * blocks});
    }
    std::uint8_t* to = out + first * pixel_bytes + (first_channel + outer) / 8;
    kernels.pack({masks, packed, steps, pixels, to, layer.out_pixels() * pixel_bytes, pixel_bytes});
  }
}

void run_table_currents(const TableKernels& kernels, const TableLayer& layer, const std::uint8_t* planes,
                        std::size_t first, std::size_t pixels, std::size_t first_channel, std::size_t channels,
                        std::uint8_t* scratch, std::int32_t* out, std::size_t out_lanes) {
  const Scratch at = layout(kernels, layer);
  const std::size_t steps = layer.source.steps;
  auto* currents = reinterpret_cast<std::int16_t*>(scratch + at.currents);
  kernels.gather({&layer, planes, first, pixels, scratch + at.maps, scratch + at.indices});
  const std::size_t vectors = rows_to_vectors(layer, pixels);
  for (std::size_t done = 0; done < channels; done += kTableLifChannels) {
    const std::size_t count = std::min(kTableLifChannels, channels - done), channel = first_channel + done;
    kernels.dot({&layer, scratch + at.indices, vectors, channel, count, layer.start.data(), scratch + at.sums,
                 currents});
    kernels.widen({currents, layer.row_stride(), count, steps, pixels, out + channel, steps * out_lanes, out_lanes});
  }
}

}  // namespace bitspike
