// Table kernels of every level against plain loops, on random layers. Exit status 1 at the first difference.
//
//   tables_test [cases] [seed]
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tables.hpp"

namespace {

using namespace bitspike;

struct Case {
  std::size_t steps, channels, height, width;
  TableShape shape;
  int bits;
  Node lif;
  std::vector<std::int8_t> weights;  // (M, C, kh, kw)
  std::vector<std::uint8_t> spikes;  // (T, H, W, C)
  std::size_t inputs() const { return channels * shape.kernel_height * shape.kernel_width; }
};

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}
  std::size_t in(std::size_t low, std::size_t high) { return low + engine_() % (high - low + 1); }
  int between(int low, int high) { return low + static_cast<int>(engine_() % static_cast<unsigned>(high - low + 1)); }
  template <class T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[engine_() % values.size()];
  }

 private:
  std::mt19937_64 engine_;
};

int arithmetic_shift(int value, int bits) { return value >> bits; }  // of int: gcc, clang and msvc all do

Case random_case(Random& random) {
  Case c;
  c.bits = random.between(1, 8);
  c.steps = random.in(1, 9);
  c.channels = random.one_of<std::size_t>({1, 2, 3, 6, 7, 8, 13, 14, 16, 21, 24, 30, 56, 57, 63, 64, 65, 72, 130});
  TableShape& s = c.shape;
  s.channels = random.one_of<std::size_t>({1, 2, 5, 8, 9, 16, 24, 31, 64, 70, 96});
  if (random.in(0, 5) == 0) {  // Linear
    c.height = random.in(1, 5);
    c.width = random.in(1, 5);
    s.kernel_height = c.height;
    s.kernel_width = c.width;
    s.stride = 1;
    s.padding = 0;
  } else {
    s.kernel_height = random.in(1, 5);
    s.kernel_width = random.in(0, 2) == 0 ? random.in(1, 5) : s.kernel_height;
    s.padding = random.in(0, 3);
    s.stride = random.in(1, 3);
    const std::size_t side = random.one_of<std::size_t>({1, 2, 4, 7, 8, 11, 16, 20, 33});
    c.height = std::max(side, s.kernel_height > 2 * s.padding ? s.kernel_height - 2 * s.padding : 1);
    c.width = std::max(random.in(0, 2) == 0 ? random.in(1, 24) : side,
                       s.kernel_width > 2 * s.padding ? s.kernel_width - 2 * s.padding : 1);
  }
  s.out_height = (c.height + 2 * s.padding - s.kernel_height) / s.stride + 1;
  s.out_width = (c.width + 2 * s.padding - s.kernel_width) / s.stride + 1;

  const int largest = c.bits == 1 ? 1 : (1 << (c.bits - 1)) - 1;
  const int style = random.between(0, 4);
  c.weights.resize(s.channels * c.inputs());
  for (auto& w : c.weights) {
    int value = random.between(-largest, largest);
    if (style == 0) value = largest;
    if (style == 1) value = -largest;
    if (style == 2) value = random.between(0, 1) != 0 ? largest : -largest;
    if (style == 3) value = value * random.between(0, 3) / 3;
    if (c.bits == 1) value = value > 0 ? 1 : -1;
    w = static_cast<std::int8_t>(value);
  }
  c.spikes.resize(c.steps * c.height * c.width * c.channels);
  const int percent = random.one_of({0, 10, 50, 100});
  for (auto& x : c.spikes) x = random.between(0, 99) < percent;

  Node& lif = c.lif;
  lif.op = Op::Lif;
  lif.source_count = 1;
  lif.bits = static_cast<std::uint32_t>(random.between(2, 15));
  lif.option = static_cast<std::uint32_t>(random.between(0, 4));
  lif.soft_reset = random.between(0, 1) != 0;
  lif.channels = static_cast<std::uint32_t>(s.channels);
  lif.params.resize(4);
  const bool scaled = random.between(0, 3) == 0, shifted = random.between(0, 2) == 0;
  for (std::size_t m = 0; m < s.channels; ++m) {
    lif.params[0].push_back(scaled ? random.between(-3, 3) : 1);
    lif.params[1].push_back(random.between(-40, 40));
    lif.params[2].push_back(random.between(-20, 200));
    lif.params[3].push_back(shifted ? random.between(0, std::min(4, 15 - static_cast<int>(lif.bits))) : 0);
  }
  return c;
}

// (M, T, pixel), exact.
std::vector<int> plain_currents(const Case& c) {
  const TableShape& s = c.shape;
  std::vector<int> out;
  for (std::size_t m = 0; m < s.channels; ++m) {
    for (std::size_t t = 0; t < c.steps; ++t) {
      for (std::size_t p = 0; p < s.out_height * s.out_width; ++p) {
        int sum = 0;
        const std::int8_t* w = c.weights.data() + m * c.inputs();
        for (std::size_t i = 0; i < c.channels; ++i) {
          for (std::size_t ky = 0; ky < s.kernel_height; ++ky) {
            for (std::size_t kx = 0; kx < s.kernel_width; ++kx, ++w) {
              const std::size_t y = p / s.out_width * s.stride + ky - s.padding;
              const std::size_t x = p % s.out_width * s.stride + kx - s.padding;
              if (y < c.height && x < c.width) {
                sum += *w * c.spikes[((t * c.height + y) * c.width + x) * c.channels + i];
              }
            }
          }
        }
        out.push_back(sum);
      }
    }
  }
  return out;
}

// Spikes (M, T, pixel); false where a number leaves 16 bits, so that the layer would not take the table path.
bool plain_lif(const Case& c, const std::vector<int>& currents, std::vector<std::uint8_t>& spikes) {
  const std::size_t pixels = c.shape.out_height * c.shape.out_width;
  const int limit = (1 << (c.lif.bits - 1)) - 1, leak = static_cast<int>(c.lif.option);
  const auto fits = [](int value) { return value >= INT16_MIN && value <= INT16_MAX; };
  spikes.assign(currents.size(), 0);
  for (std::size_t m = 0; m < c.shape.channels; ++m) {
    const int multiplier = c.lif.params[0][m], bias = c.lif.params[1][m], threshold = c.lif.params[2][m];
    const int shift = c.lif.params[3][m], half = (1 << shift) >> 1;
    for (std::size_t p = 0; p < pixels; ++p) {
      int carry = 0;
      for (std::size_t t = 0; t < c.steps; ++t) {
        const std::size_t at = (m * c.steps + t) * pixels + p;
        const int leaked = leak != 0 ? carry - arithmetic_shift(carry, leak) : carry;
        const int u = leaked + multiplier * currents[at] + bias;
        spikes[at] = u >= threshold;
        const int rest = spikes[at] == 0 ? u : c.lif.soft_reset ? u - threshold : 0;
        if (!fits(u) || !fits(rest + half)) return false;
        carry = std::min(std::max(arithmetic_shift(rest + half, shift), -limit), limit) * (1 << shift);
      }
    }
  }
  return true;
}

std::string describe(const Case& c) {
  const TableShape& s = c.shape;
  char text[256];
  std::snprintf(text, sizeof text,
                "T %zu, (%zu, %zu, %zu) -> (%zu, %zu, %zu), kernel %zux%zu stride %zu padding %zu, %d bits", c.steps,
                c.channels, c.height, c.width, s.channels, s.out_height, s.out_width, s.kernel_height,
                s.kernel_width, s.stride, s.padding, c.bits);
  return text;
}

// "" or what differs.
std::string check(const TableKernels& kernels, const Case& c, Random& random, bool& ran_lif) {
  Edge edge;
  edge.stored = edge.bits = true;
  edge.frames = c.steps;
  edge.channels = c.channels;
  edge.height = c.height;
  edge.width = c.width;
  edge.pixel_bytes = (c.channels + 7) / 8;
  std::vector<std::uint8_t> bits(edge.size() + 64, 0xA5);
  std::fill(bits.begin(), bits.begin() + static_cast<std::ptrdiff_t>(edge.size()), 0);
  for (std::size_t i = 0; i < c.spikes.size(); ++i) {
    const std::size_t channel = i % c.channels;
    bits[i / c.channels * edge.pixel_bytes + channel / 8] |= static_cast<std::uint8_t>(c.spikes[i] << (channel % 8));
  }

  const TableSource source = make_table_source(kernels, edge, c.shape.padding + random.in(0, 1));
  if (!tables_accept(source, c.shape)) return "not accepted";
  TableLayer layer = plan_tables(kernels, source, c.shape, c.weights.data());
  fill_tables(kernels, layer, c.weights.data());
  const TableLif lif = prepare_table_lif(layer, c.lif, c.steps);

  AlignedBuffer planes(source.bytes), scratch(table_scratch_bytes(kernels, layer));
  std::fill_n(planes.data(), source.bytes, std::uint8_t{0xFF});
  const std::size_t cut = random.in(0, source.pixels());
  kernels.planes({&source, bits.data(), planes.data(), 0, cut});
  kernels.planes({&source, bits.data(), planes.data(), cut, source.pixels() - cut});

  const std::vector<int> currents = plain_currents(c);
  std::vector<std::uint8_t> expected;
  ran_lif = plain_lif(c, currents, expected);
  const std::size_t pixels = layer.out_pixels(), out_bytes = (c.shape.channels + 7) / 8;
  const std::size_t lanes = round_up(c.shape.channels, kLanes);
  std::vector<std::uint8_t> out(c.steps * pixels * out_bytes + 64, 0x5A);
  std::vector<std::int32_t> wide(layer.tile_pixels * c.steps * lanes + 64, 0x5A5A5A5A);
  const std::size_t split = std::min(c.shape.channels, random.in(0, c.shape.channels / 8) * 8);
  const std::size_t wide_split = std::min(c.shape.channels, random.in(0, c.shape.channels / 16) * 16);
  for (std::size_t first = 0; first < pixels; first += layer.tile_pixels) {
    const std::size_t count = std::min(layer.tile_pixels, pixels - first);
    const auto run = [&](std::size_t channel, std::size_t channels) {
      if (channels == 0) return;
      run_table_tile(kernels, layer, lif, planes.data(), first, count, channel, channels, scratch.data(), out.data(),
                     out_bytes);
    };
    const auto widen = [&](std::size_t channel, std::size_t channels) {
      if (channels == 0) return;
      run_table_currents(kernels, layer, planes.data(), first, count, channel, channels, scratch.data(), wide.data(),
                         lanes);
    };
    run(0, split);
    run(split, c.shape.channels - split);
    widen(0, wide_split);
    widen(wide_split, c.shape.channels - wide_split);
    for (std::size_t m = 0; m < c.shape.channels; ++m) {
      for (std::size_t t = 0; t < c.steps; ++t) {
        for (std::size_t p = 0; p < count; ++p) {
          const int exact = currents[(m * c.steps + t) * pixels + first + p];
          const int got = wide[(p * c.steps + t) * lanes + m];
          const bool same = static_cast<std::uint16_t>(exact) == static_cast<std::uint16_t>(got) &&
                            (!layer.currents_fit_int16 || exact == got);
          if (!same) {
            char text[160];
            std::snprintf(text, sizeof text, "current of channel %zu, step %zu, pixel %zu: %d, expected %d", m, t,
                          first + p, got, exact);
            return text;
          }
        }
      }
    }
  }
  for (std::size_t i = c.steps * pixels * out_bytes; i < out.size(); ++i) {
    if (out[i] != 0x5A) return "wrote behind the destination";
  }
  if (!ran_lif) return "";
  for (std::size_t m = 0; m < 8 * out_bytes; ++m) {
    for (std::size_t t = 0; t < c.steps; ++t) {
      for (std::size_t p = 0; p < pixels; ++p) {
        const int got = out[(t * pixels + p) * out_bytes + m / 8] >> (m % 8) & 1;
        const int want = m < c.shape.channels ? expected[(m * c.steps + t) * pixels + p] : 0;
        if (got != want) {
          char text[160];
          std::snprintf(text, sizeof text,
                        "spike of channel %zu, step %zu, pixel %zu: %d, expected %d (%zu planes)", m, t, p, got, want,
                        layer.planes);
          return text;
        }
      }
    }
  }
  return "";
}

}  // namespace

int main(int argc, char** argv) {
  const int cases = argc > 1 ? std::atoi(argv[1]) : 300;
  const std::uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0;
  std::vector<const TableKernels*> levels;
#if defined(__x86_64__)
  if (avx2_tables() && __builtin_cpu_supports("avx2")) levels.push_back(avx2_tables());
  if (avx512_tables() && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    levels.push_back(avx512_tables());
  }
#endif
  if (levels.empty()) {
    std::puts("skipped: this machine or build has no table kernels");
    return 0;
  }
  int lifs = 0;
  for (int i = 0; i < cases; ++i) {
    Random random(seed * 1000003 + static_cast<std::uint64_t>(i));
    const Case c = random_case(random);
    for (const TableKernels* kernels : levels) {
      bool ran_lif = false;
      const std::string difference = check(*kernels, c, random, ran_lif);
      lifs += ran_lif;
      if (!difference.empty()) {
        std::printf("case %d, %s: %s: %s\n", i, kernels->name, describe(c).c_str(), difference.c_str());
        return 1;
      }
    }
  }
  std::printf("%d cases, %zu levels: equal (%d with spikes compared)\n", cases, levels.size(), lifs);
  return lifs == 0;
}
