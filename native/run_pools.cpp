// OrPool, SumPool and Add.
#include <algorithm>
#include <cstring>

#include "runner.hpp"

namespace bitspike {
namespace {

// Where one output pixel of a pool looks, clipped to the source.
struct Window {
  std::size_t step, pixel;
  std::size_t top, bottom, left, right;
};

}  // namespace

// Calls visit(window) for every output pixel of a pool.
template <class F>
void Runner::each_window(std::size_t index, F visit) const {
  const Node& node = net_.graph_.nodes[index];
  const Edge &out = edge(index), &in = edge(node.sources[0]);
  const auto clip = [&](std::size_t position, std::size_t size, std::size_t& begin, std::size_t& end) {
    const std::int64_t start = static_cast<std::int64_t>(position * node.stride) - node.padding;
    begin = static_cast<std::size_t>(std::max<std::int64_t>(start, 0));
    end = static_cast<std::size_t>(std::min<std::int64_t>(start + node.kernel_height, static_cast<std::int64_t>(size)));
  };
  Window window{};
  for (window.step = 0; window.step < out.frames; ++window.step) {
    window.pixel = 0;
    for (std::size_t y = 0; y < out.height; ++y) {
      clip(y, in.height, window.top, window.bottom);
      for (std::size_t x = 0; x < out.width; ++x, ++window.pixel) {
        clip(x, in.width, window.left, window.right);
        visit(window);
      }
    }
  }
}

void Runner::or_pool(std::size_t index) {
  const Edge &out = edge(index), &in = edge(net_.graph_.nodes[index].sources[0]);
  const std::size_t bytes = out.pixel_bytes, pitch = in.width * bytes;
  auto* result = at<std::uint8_t>(out.offset);  // windows come in the order of the output
  each_window(index, [&](const Window& w) {
    const std::uint8_t* source = pixel(in, w.step, w.top * in.width + w.left);
    // Whole 8-byte words, as when gathering: the next output pixel overwrites what is written too far.
    for (std::size_t i = 0; i < bytes; i += 8) {
      std::uint64_t bits = 0, more;
      for (std::size_t y = 0; y < w.bottom - w.top; ++y) {
        for (std::size_t x = 0; x < w.right - w.left; ++x) {
          std::memcpy(&more, source + y * pitch + x * bytes + i, sizeof more);
          bits |= more;
        }
      }
      std::memcpy(result + i, &bits, sizeof bits);
    }
    result += bytes;
  });
}

void Runner::store_counts(const Edge& e, std::size_t step, std::size_t index, const std::int32_t* sums) {
  auto* out = at<std::int16_t>(e.offset) + (step * e.pixels() + index) * e.channels;
  for (std::size_t c = 0; c < e.channels; ++c) out[c] = static_cast<std::int16_t>(sums[c]);
}

void Runner::sum_pool(std::size_t index) {
  const Edge &out = edge(index), &in = edge(net_.graph_.nodes[index].sources[0]);
  auto* sums = at<std::int32_t>(net_.scratch_.sums);
  each_window(index, [&](const Window& w) {
    std::memset(sums, 0, round_up(out.channels, kLanes) * sizeof *sums);
    for (std::size_t y = w.top; y < w.bottom; ++y) {
      for (std::size_t x = w.left; x < w.right; ++x) add_pixels(in, pixel(in, w.step, y * in.width + x), 1, sums);
    }
    store_counts(out, w.step, w.pixel, sums);
  });
}

void Runner::add(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge& out = edge(index);
  auto* sums = at<std::int32_t>(net_.scratch_.sums);
  for (std::size_t t = 0; t < out.frames; ++t) {
    for (std::size_t p = 0; p < out.pixels(); ++p) {
      std::memset(sums, 0, round_up(out.channels, kLanes) * sizeof *sums);
      for (const std::uint32_t source : node.sources) add_pixels(edge(source), pixel(edge(source), t, p), 1, sums);
      store_counts(out, t, p, sums);
    }
  }
}

}  // namespace bitspike
