// MaxPool, SumPool of a stream, Reduce, Gate, Concat, Product.
#include <algorithm>
#include <cstring>

#include "runner.hpp"
#include "windows.hpp"

namespace bitspike {
namespace {

// Clears bits first .. last - 1.
void clear_bits(std::uint8_t* bits, std::size_t first, std::size_t last) {
  const auto head = static_cast<std::uint8_t>(0xFF << (first % 8)), tail = static_cast<std::uint8_t>(0xFF << (last % 8));
  const std::size_t begin = first / 8, end = last / 8;
  if (begin == end) {
    bits[begin] &= static_cast<std::uint8_t>(~head | tail);
    return;
  }
  bits[begin] &= static_cast<std::uint8_t>(~head);
  std::memset(bits + begin + 1, 0, end - begin - 1);
  if (last % 8) bits[end] &= tail;
}

// Appends `count` bits of a row to `position` bits, whose byte's rest is zero.
void append_bits(std::uint8_t* out, std::size_t position, const std::uint8_t* from, std::size_t count) {
  const std::size_t shift = position % 8, bytes = (count + 7) / 8;
  out += position / 8;
  if (shift == 0) {
    std::memcpy(out, from, bytes);
    return;
  }
  for (std::size_t i = 0; i < bytes; ++i) {
    *out++ |= static_cast<std::uint8_t>(from[i] << shift);
    if (8 * i + 8 - shift < count) *out = static_cast<std::uint8_t>(from[i] >> (8 - shift));
  }
}

}  // namespace

void Runner::wide_pool(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge &out = edge(index), &in = edge(node.sources[0]);
  share(in.size() / 16, [&](unsigned part, unsigned parts) {
    each_window(node, out, in, split(out.frames * out.height, parts, part), [&](const Window& w) {
      const auto* first = reinterpret_cast<const std::int32_t*>(pixel(in, w.step, w.top * in.width + w.left));
      kernels_.window({first, w.bottom - w.top, w.right - w.left, in.width * in.channels, in.channels,
                       node.op == Op::MaxPool, at<std::int32_t>(out.offset + w.step * out.step_bytes()) +
                       w.pixel * out.channels});
    });
  });
}

void Runner::reduce(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge &out = edge(index), &in = edge(node.sources[0]);
  const std::size_t group = in.channels / out.channels, words = (group + 31) / 32;
  if (node.option == kOverChannels) {
    share(in.size() / 4, [&](unsigned part, unsigned parts) {
      auto* rows = own<std::uint32_t>(part, net_.scratch_.local.rows);
      const Span mine = split(out.frames * out.pixels(), parts, part);
      for (std::size_t i = mine.first; i < mine.last; ++i) {
        const std::uint8_t* bits = pixel(in, 0, i);
        for (std::size_t head = 0; head < out.channels; ++head) {
          for (std::size_t word = 0; word < words; ++word) {
            const std::size_t used = std::min<std::size_t>(group - 32 * word, 32);
            rows[head * words + word] = static_cast<std::uint32_t>(bits_at(bits, head * group + 32 * word, used));
          }
        }
        kernels_.count_ones(rows, out.channels, words, at<std::int32_t>(out.offset) + i * out.channels);
      }
    });
    return;
  }
  auto* sums = own<std::int32_t>(0, net_.scratch_.local.sums);
  for (std::size_t t = 0; t < out.frames; ++t) {
    auto* result = at<std::int32_t>(out.offset + t * out.step_bytes());
    if (in.wide) {
      const auto* first = reinterpret_cast<const std::int32_t*>(pixel(in, t, 0));
      kernels_.window({first, 1, in.pixels(), 0, in.channels, false, result});
      continue;
    }
    std::memset(sums, 0, round_up(in.channels, kLanes) * sizeof *sums);
    for (std::size_t p = 0; p < in.pixels(); ++p) add_pixels(in, pixel(in, t, p), 1, sums);
    std::memset(result, 0, out.step_bytes());
    for (std::size_t c = 0; c < out.channels * group; ++c) result[c / group] += sums[c];
  }
}

void Runner::gate(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge &out = edge(index), &in = edge(node.sources[0]), &gate = edge(node.sources[1]);
  const std::size_t group = in.channels / gate.channels;
  share(out.size() / 2, [&](unsigned part, unsigned parts) {
    const Span mine = split(out.frames * out.pixels(), parts, part);
    for (std::size_t i = mine.first; i < mine.last; ++i) {
      const std::size_t t = i / out.pixels(), p = i % out.pixels();
      auto* result = at<std::uint8_t>(out.offset) + i * out.pixel_bytes;
      const std::uint8_t* mask = pixel(gate, t, gate.pixels() == 1 ? 0 : p);
      std::memcpy(result, pixel(in, t, p), out.pixel_bytes);
      if (group == 1) {
        for (std::size_t k = 0; k < out.pixel_bytes; ++k) result[k] &= mask[k];
        continue;
      }
      for (std::size_t g = 0; g < gate.channels; ++g) {
        if (!((mask[g / 8] >> (g % 8)) & 1)) clear_bits(result, g * group, (g + 1) * group);
      }
    }
  });
}

void Runner::concatenate(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge& out = edge(index);
  share(out.size() / 4, [&](unsigned part, unsigned parts) {
    const Span mine = split(out.frames * out.pixels(), parts, part);
    for (std::size_t i = mine.first; i < mine.last; ++i) {
      auto* result = at<std::uint8_t>(out.offset) + i * out.pixel_bytes;
      std::size_t channels = 0;
      for (std::uint32_t s = 0; s < node.source_count; ++s) {
        const Edge& in = edge(node.sources[s]);
        if (out.bits) {
          append_bits(result, channels, pixel(in, 0, i), in.channels);
        } else {
          std::memcpy(result + 4 * channels, pixel(in, 0, i), in.pixel_bytes);
        }
        channels += in.channels;
      }
    }
  });
}

void Runner::product(std::size_t index) {
  const Node& node = net_.graph_.nodes[index];
  const Edge &out = edge(index), &left = edge(node.sources[0]), &right = edge(node.sources[1]);
  const std::size_t lanes = round_up(out.channels, kLanes);
  auto* factors = own<std::int32_t>(0, net_.scratch_.local.sums);
  std::int32_t* values = factors + lanes;
  auto* result = at<std::int32_t>(out.offset);
  for (std::size_t t = 0; t < out.frames; ++t) {
    std::memset(factors, 0, lanes * sizeof *factors);
    add_pixels(right, pixel(right, t, 0), 1, factors);
    for (std::size_t p = 0; p < out.pixels(); ++p, result += out.channels) {
      std::memset(values, 0, lanes * sizeof *values);
      add_pixels(left, pixel(left, t, p), 1, values);
      for (std::size_t c = 0; c < out.channels; ++c) result[c] = values[c] * factors[c];
    }
  }
}

}  // namespace bitspike
