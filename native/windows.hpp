// The windows of pools.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "pool.hpp"
#include "prepare.hpp"

namespace bitspike {

// Where one output pixel of a pool looks, clipped to the source.
struct Window {
  std::size_t step, pixel;
  std::size_t top, bottom, left, right;
};

// Calls visit(window) for every output pixel of lines [first, last) of a pool, counted over all steps.
template <class F>
void each_window(const Node& node, const Edge& out, const Edge& in, Span lines, F visit) {
  const auto clip = [&](std::size_t position, std::size_t size, std::size_t& begin, std::size_t& end) {
    const std::int64_t start = static_cast<std::int64_t>(position * node.stride) - node.padding;
    begin = static_cast<std::size_t>(std::max<std::int64_t>(start, 0));
    end = static_cast<std::size_t>(std::min<std::int64_t>(start + node.kernel_height, static_cast<std::int64_t>(size)));
  };
  Window window{};
  for (std::size_t line = lines.first; line < lines.last; ++line) {
    const std::size_t y = line % out.height;
    window.step = line / out.height;
    clip(y, in.height, window.top, window.bottom);
    for (std::size_t x = 0; x < out.width; ++x) {
      window.pixel = y * out.width + x;
      clip(x, in.width, window.left, window.right);
      visit(window);
    }
  }
}

}  // namespace bitspike
