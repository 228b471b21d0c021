// Speed of the table path, step by step, in multiply-accumulates per cycle of the thread's CPU time, beside the peak of
// its innermost instructions (table lookup and byte addition in registers) measured in the same process.
//
//   tables_bench [bits]
#include <ctime>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "tables.hpp"

namespace {

using namespace bitspike;

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Median seconds of one call of each function, interleaved.
template <std::size_t N, class... F>
void measure(double (&seconds)[N], F... f) {
  static_assert(sizeof...(f) == N, "one result per function");
  constexpr int kSamples = 15;
  std::vector<double> samples[N];
  for (int i = 0; i < kSamples; ++i) {
    std::size_t which = 0;
    const auto time = [&](auto& function) {
      int calls = 0;
      const double begin = cpu_seconds();
      double end = begin;
      do {
        function();
        ++calls;
        end = cpu_seconds();
      } while (end - begin < 2e-3);
      samples[which++].push_back((end - begin) / calls);
    };
    (time(f), ...);
  }
  for (std::size_t i = 0; i < N; ++i) {
    std::nth_element(samples[i].begin(), samples[i].begin() + kSamples / 2, samples[i].end());
    seconds[i] = samples[i][kSamples / 2];
  }
}

// A chain of dependent decrements: one per cycle on every x86-64 processor of the last decade.
void cycles(long count) {
  asm volatile("1: dec %0\n dec %0\n dec %0\n dec %0\n jnz 1b" : "+r"(count)::"cc");
}

constexpr long kCycles = 4000000, kPeakLoops = 100000;

#define LOOKUP(index, sum, temporary)                  \
  "vmovdqa64 %%zmm" #index ",%%zmm" #temporary "\n\t"  \
  "vpermi2b %%zmm21,%%zmm20,%%zmm" #temporary "\n\t"   \
  "vpaddb %%zmm" #temporary ",%%zmm" #sum ",%%zmm" #sum "\n\t"

// 16 lookups of 7 spikes in 64 rows per iteration.
void peak_lookups() {
  long count = kPeakLoops;
  asm volatile(".p2align 6\n1:\n\t"
               LOOKUP(16, 0, 24) LOOKUP(17, 1, 25) LOOKUP(18, 2, 26) LOOKUP(19, 3, 27)
               LOOKUP(16, 4, 24) LOOKUP(17, 5, 25) LOOKUP(18, 6, 26) LOOKUP(19, 7, 27)
               LOOKUP(16, 8, 24) LOOKUP(17, 9, 25) LOOKUP(18, 10, 26) LOOKUP(19, 11, 27)
               LOOKUP(16, 12, 24) LOOKUP(17, 13, 25) LOOKUP(18, 14, 26) LOOKUP(19, 15, 27)
               "dec %0\n\tjnz 1b"
               : "+r"(count)
               :
               : "cc", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11",
                 "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm24",
                 "zmm25", "zmm26", "zmm27");
}

#define LOOKUP6(index, sum, temporary)                         \
  "vpermb %%zmm20,%%zmm" #index ",%%zmm" #temporary "\n\t"     \
  "vpaddb %%zmm" #temporary ",%%zmm" #sum ",%%zmm" #sum "\n\t"

// The same with tables of 64 bytes: 6 spikes.
void peak_lookups6() {
  long count = kPeakLoops;
  asm volatile(".p2align 6\n1:\n\t"
               LOOKUP6(16, 0, 24) LOOKUP6(17, 1, 25) LOOKUP6(18, 2, 26) LOOKUP6(19, 3, 27)
               LOOKUP6(16, 4, 24) LOOKUP6(17, 5, 25) LOOKUP6(18, 6, 26) LOOKUP6(19, 7, 27)
               LOOKUP6(16, 8, 24) LOOKUP6(17, 9, 25) LOOKUP6(18, 10, 26) LOOKUP6(19, 11, 27)
               LOOKUP6(16, 12, 24) LOOKUP6(17, 13, 25) LOOKUP6(18, 14, 26) LOOKUP6(19, 15, 27)
               "dec %0\n\tjnz 1b"
               : "+r"(count)
               :
               : "cc", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10", "zmm11",
                 "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm24", "zmm25",
                 "zmm26", "zmm27");
}

struct Shape {
  std::size_t channels, side, kernel, steps;
};

void bench(const TableKernels& kernels, const Shape& s, int bits) {
  std::mt19937 random(1);
  Edge edge;
  edge.stored = edge.bits = true;
  edge.frames = s.steps;
  edge.channels = s.channels;
  edge.height = edge.width = s.side;
  edge.pixel_bytes = (s.channels + 7) / 8;
  std::vector<std::uint8_t> spikes(edge.size() + 64), out(edge.size() + 64);
  for (auto& x : spikes) x = static_cast<std::uint8_t>(random() & random() & random());

  // Bell-shaped weights, as training leaves them.
  const int largest = bits == 1 ? 1 : (1 << (bits - 1)) - 1;
  std::normal_distribution<double> normal(0, largest / 2.5);
  const std::size_t inputs = s.channels * s.kernel * s.kernel;
  std::vector<std::int8_t> weights(s.channels * inputs);
  for (auto& w : weights) {
    const double value = normal(random);
    w = static_cast<std::int8_t>(bits == 1 ? (value < 0 ? -1 : 1) : std::clamp<double>(value, -largest, largest));
  }
  Node node;
  node.op = Op::Lif;
  node.bits = 16;
  node.option = 1;
  node.params = {std::vector<std::int32_t>(s.channels, 1), std::vector<std::int32_t>(s.channels, 0),
                 std::vector<std::int32_t>(s.channels, largest * 20), std::vector<std::int32_t>(s.channels, 0)};

  const TableShape shape{s.channels, s.side, s.side, s.kernel, s.kernel, 1, s.kernel / 2};
  const TableSource source = make_table_source(kernels, edge, shape.padding);
  TableLayer layer = plan_tables(kernels, source, shape, weights.data());
  fill_tables(kernels, layer, weights.data());
  const TableLif lif = prepare_table_lif(layer, node, s.steps);
  AlignedBuffer planes(source.bytes), scratch(table_scratch_bytes(kernels, layer));
  AlignedBuffer maps(kernels.map_bytes), indices(layer.row_stride() * layer.lookups + 64);
  AlignedBuffer sums(2 * kTablePass * kernels.columns * kTableChunk * kernels.lanes);
  std::vector<std::int16_t> currents(layer.row_stride() * s.channels + 64);
  std::vector<std::uint32_t> masks(s.channels * s.steps * ((layer.tile_pixels + 31) / 32));

  const auto each_tile = [&](auto f) {
    for (std::size_t first = 0; first < layer.out_pixels(); first += layer.tile_pixels) {
      const std::size_t pixels = std::min(layer.tile_pixels, layer.out_pixels() - first);
      f(first, pixels, (pixels * s.steps + layer.lanes - 1) / layer.lanes);
    }
  };
  double t[8];
  measure(
      t, [] { cycles(kCycles); }, [] { peak_lookups(); },
      [&] { kernels.planes({&source, spikes.data(), planes.data(), 0, source.pixels()}); },
      [&] {
        each_tile([&](std::size_t first, std::size_t pixels, std::size_t) {
          kernels.gather({&layer, planes.data(), first, pixels, maps.data(), indices.data()});
        });
      },
      [&] {
        each_tile([&](std::size_t, std::size_t, std::size_t vectors) {
          for (std::size_t c = 0; c < s.channels; c += kTableLifChannels) {
            kernels.dot({&layer, indices.data(), vectors, c, std::min(kTableLifChannels, s.channels - c),
                         lif.start.data(), sums.data(), currents.data()});
          }
        });
      },
      [&] {
        each_tile([&](std::size_t, std::size_t pixels, std::size_t) {
          for (std::size_t c = 0; c < s.channels; c += kTableLifChannels) {
            kernels.lif({&lif, c, std::min(kTableLifChannels, s.channels - c), currents.data(), layer.row_stride(),
                         s.steps, pixels, masks.data()});
          }
        });
      },
      [&] {
        each_tile([&](std::size_t first, std::size_t pixels, std::size_t) {
          for (std::size_t c = 0; c < s.channels; c += kTablePackChannels) {
            kernels.pack({masks.data(), std::min(kTablePackChannels, s.channels - c), s.steps, pixels,
                          out.data() + first * edge.pixel_bytes + c / 8, edge.step_bytes(), edge.pixel_bytes});
          }
        });
      },
      [&] {
        kernels.planes({&source, spikes.data(), planes.data(), 0, source.pixels()});
        each_tile([&](std::size_t first, std::size_t pixels, std::size_t) {
          run_table_tile(kernels, layer, lif, planes.data(), first, pixels, 0, s.channels, scratch.data(), out.data(),
                         edge.pixel_bytes);
        });
      });
  const double cycle = t[0] / kCycles;
  const double peak = 16.0 * 64 * 7 * kPeakLoops / t[1] * cycle;
  const double macs = static_cast<double>(layer.out_pixels() * s.steps * s.channels * inputs);
  const double dot = macs / t[4] * cycle, whole = macs / t[7] * cycle;
  const auto us = [&](int i) { return t[i] * 1e6; };
  std::printf("%-6s %3zux%2zux%2zu k%zu T%zu b%d planes %zu run %4.1f tables %5zu KiB | ", kernels.name, s.channels,
              s.side, s.side, s.kernel, s.steps, bits, layer.planes,
              static_cast<double>(layer.tiles * layer.lookups) / static_cast<double>(layer.runs.size()),
              table_bytes(layer) / 1024);
  std::printf("us: planes %5.1f gather %5.1f dot %6.1f lif %5.1f pack %4.1f whole %6.1f | ", us(2), us(3), us(4), us(5),
              us(6), us(7));
  std::printf("MAC/cycle: dot %3.0f (%2.0f %%) whole %3.0f (%2.0f %%) of peak %3.0f at %.2f GHz\n", dot,
              100 * dot / peak, whole, 100 * whole / peak, peak, 1e-9 / cycle);
}

}  // namespace

int main(int argc, char** argv) {
  const int only = argc > 1 ? std::atoi(argv[1]) : 0;
  if (!avx512_tables() || !__builtin_cpu_supports("avx512vbmi")) {
    std::puts("skipped: this machine or build has no AVX-512 table kernels");
    return 0;
  }
  double t[3];
  measure(t, [] { cycles(kCycles); }, [] { peak_lookups(); }, [] { peak_lookups6(); });
  const double cycle = t[0] / kCycles, lookups = 16.0 * 64 * kPeakLoops;
  std::printf("peak in registers: %.0f MAC/cycle with 7 spikes per lookup, %.0f with 6\n", 7 * lookups / t[1] * cycle,
              6 * lookups / t[2] * cycle);
  const Shape shapes[] = {{64, 32, 3, 4}, {128, 16, 3, 4}, {256, 8, 3, 4}, {512, 4, 3, 4}, {128, 16, 3, 1},
                          {128, 4, 3, 4}, {256, 8, 3, 2},  {256, 8, 3, 1}, {64, 16, 1, 4}, {56, 32, 3, 4}};
  for (const TableKernels* kernels : {avx512_tables(), avx2_tables()}) {
    for (const int bits : {4, 1, 2, 5, 6, 8}) {
      if (!kernels || (only != 0 && bits != only)) continue;
      for (const Shape& shape : shapes) bench(*kernels, shape, bits);
    }
  }
}
