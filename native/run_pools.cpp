// OrPool, SumPool and Add.
#include <algorithm>
#include <cstring>

#include "runner.hpp"
#include "windows.hpp"

namespace bitspike {
void Runner::or_pool(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge &out = edge(index), &in = edge(node.sources[0]);
  const std::size_t bytes = out.pixel_bytes, pitch = in.width * bytes;
  const auto pool = [&](const Window& w) {
    const std::uint8_t* source = pixel(in, w.step, w.top * in.width + w.left);
    auto* result = at<std::uint8_t>(out.offset) + w.step * out.step_bytes() + w.pixel * bytes;
    for (std::size_t i = 0; i < bytes; i += 8) {
      std::uint64_t bits = 0, more;
      for (std::size_t y = 0; y < w.bottom - w.top; ++y) {
        for (std::size_t x = 0; x < w.right - w.left; ++x) {
          std::memcpy(&more, source + y * pitch + x * bytes + i, sizeof more);
          bits |= more;
        }
      }
      // Never more than its own bytes: the next pixel may be another thread's.
      if (bytes - i >= 8) {
        std::memcpy(result + i, &bits, sizeof bits);
      } else {
        for (std::size_t k = i; k < bytes; ++k, bits >>= 8) result[k] = static_cast<std::uint8_t>(bits);
      }
    }
  };
  share(in.size() / 8, [&](unsigned part, unsigned parts) {
    each_window(node, out, in, split(out.frames * out.height, parts, part), pool);
  });
}

void Runner::store_counts(const Edge& e, std::size_t step, std::size_t index, const std::int32_t* sums) const {
  auto* out = at<std::int16_t>(e.offset) + (step * e.pixels() + index) * e.channels;
  for (std::size_t c = 0; c < e.channels; ++c) out[c] = static_cast<std::int16_t>(sums[c]);
}

void Runner::sum_pool(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge &out = edge(index), &in = edge(node.sources[0]);
  share(in.pixels() * in.frames * in.channels / 4, [&](unsigned part, unsigned parts) {
    auto* sums = own<std::int32_t>(part, net_.scratch_.local.sums);
    each_window(node, out, in, split(out.frames * out.height, parts, part), [&](const Window& w) {
      std::memset(sums, 0, round_up(out.channels, kLanes) * sizeof *sums);
      for (std::size_t y = w.top; y < w.bottom; ++y) {
        for (std::size_t x = w.left; x < w.right; ++x) add_pixels(in, pixel(in, w.step, y * in.width + x), 1, sums);
      }
      store_counts(out, w.step, w.pixel, sums);
    });
  });
}

void Runner::add(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge& out = edge(index);
  share(out.pixels() * out.frames * out.channels / 4, [&](unsigned part, unsigned parts) {
    auto* sums = own<std::int32_t>(part, net_.scratch_.local.sums);
    const Span mine = split(out.frames * out.pixels(), parts, part);
    for (std::size_t i = mine.first; i < mine.last; ++i) {
      const std::size_t t = i / out.pixels(), p = i % out.pixels();
      std::memset(sums, 0, round_up(out.channels, kLanes) * sizeof *sums);
      for (std::uint32_t s = 0; s < node.source_count; ++s) {
        const Edge& source = edge(node.sources[s]);
        add_pixels(source, pixel(source, t, p), 1, sums);
      }
      store_counts(out, t, p, sums);
    }
  });
}

}  // namespace bitspike
