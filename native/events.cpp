// Weights as one row per input channel of every tap; the table of bits that all levels share.
#include "events.hpp"

#include <algorithm>
#include <cstring>

namespace bitspike {
namespace {

constexpr BitTable make_bit_table() {
  BitTable table{};
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (std::uint8_t bit = 0; bit < 8; ++bit) {
      if ((byte >> bit & 1) != 0) table.position[byte][table.count[byte]++] = bit;
    }
  }
  return table;
}

}  // namespace

constexpr BitTable kBitTable = make_bit_table();

void pack_event_weights(const EventPlan& plan, const std::int8_t* weights, std::int8_t* out) {
  std::memset(out, 0, plan.weight_bytes());
  const std::size_t taps = plan.kernel_height * plan.kernel_width;
  for (std::size_t m = 0; m < plan.outputs; ++m) {
    const std::size_t block = m / (2 * kEventLanes), first = block * 2 * kEventLanes;
    const std::size_t width = std::min(2 * kEventLanes, plan.lanes() - first);
    std::int8_t* to = out + first * plan.rows() + (m - first);
    for (std::size_t c = 0; c < plan.channels; ++c) {
      for (std::size_t tap = 0; tap < taps; ++tap) to[(tap * plan.channels + c) * width] = *weights++;
    }
  }
}

}  // namespace bitspike
