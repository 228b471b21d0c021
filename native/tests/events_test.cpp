// Event kernels at every level against plain loops: events_test [--time] [cases] [seed].
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "events.hpp"
#include "kernels.hpp"

namespace {

using namespace bitspike;

struct Level {
  const char* name;
  const EventKernels* events;
  const Kernels* dense;
};

std::vector<Level> levels() {
  std::vector<Level> all{{"portable", &portable_event_kernels(), &portable_kernels()}};
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
  if (avx2 && avx2_event_kernels()) all.push_back({"avx2", avx2_event_kernels(), avx2_kernels()});
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512vbmi2") && __builtin_cpu_supports("avx512vpopcntdq");
  if (avx512 && avx512_event_kernels()) all.push_back({"avx512", avx512_event_kernels(), avx512_kernels()});
  return all;
}

template <class T>
struct Aligned {
  explicit Aligned(std::size_t bytes)
      : size(bytes), data(static_cast<T*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64))) {
    std::memset(data, 0xA5, bytes);
  }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  ~Aligned() { std::free(data); }
  std::size_t size;
  T* data;
};

struct Case {
  EventPlan plan;
  std::size_t out_pixels;
  std::vector<std::uint8_t> bits;    // [frame][pixel][pixel bytes]
  std::vector<std::int8_t> weights;  // (outputs, channels, kernel height, kernel width)

  std::size_t pixel_bytes() const { return (plan.channels + 7) / 8; }
  SpikeBits edge() const { return {bits.data(), plan.height * plan.width * pixel_bytes(), pixel_bytes()}; }
  int spike(std::size_t frame, std::size_t y, std::size_t x, std::size_t c) const {
    return bits[((frame * plan.height + y) * plan.width + x) * pixel_bytes() + c / 8] >> (c % 8) & 1;
  }
};

Case make_case(EventPlan plan, int weight_bits, double rate, bool extreme, std::mt19937_64& random) {
  Case c{plan, 0, {}, {}};
  c.plan.out_width = (plan.width + 2 * plan.padding - plan.kernel_width) / plan.stride + 1;
  const std::size_t out_height = (plan.height + 2 * plan.padding - plan.kernel_height) / plan.stride + 1;
  c.out_pixels = c.plan.out_width * out_height;
  const std::size_t pixels = plan.frames * plan.height * plan.width;
  c.bits.resize(pixels * c.pixel_bytes() + 64);
  std::bernoulli_distribution spike(rate);
  for (std::size_t i = 0; i < pixels; ++i) {
    for (std::size_t b = 0; b < plan.channels; ++b) {
      c.bits[i * c.pixel_bytes() + b / 8] |= static_cast<std::uint8_t>(spike(random) << (b % 8));
    }
  }
  const int top = weight_bits == 1 ? 1 : (1 << (weight_bits - 1)) - 1;
  c.weights.resize(plan.outputs * plan.channels * plan.kernel_height * plan.kernel_width);
  for (std::size_t i = 0; i < c.weights.size(); ++i) {
    const std::size_t row = i / (c.weights.size() / plan.outputs);
    if (extreme) {
      c.weights[i] = static_cast<std::int8_t>(row % 2 == 0 ? top : -top);
    } else if (weight_bits == 1) {
      c.weights[i] = random() % 2 == 0 ? 1 : -1;
    } else {
      c.weights[i] = static_cast<std::int8_t>(static_cast<int>(random() % (2 * top + 1)) - top);
    }
  }
  c.plan.largest = 1;
  for (const std::int8_t w : c.weights) c.plan.largest = std::max<std::size_t>(c.plan.largest, std::abs(int{w}));
  return c;
}

std::int32_t expected(const Case& c, std::size_t pixel, std::size_t frame, std::size_t m) {
  const EventPlan& p = c.plan;
  std::int32_t sum = 0;
  for (std::size_t i = 0; i < p.kernel_height; ++i) {
    for (std::size_t j = 0; j < p.kernel_width; ++j) {
      const std::size_t y = pixel / p.out_width * p.stride + i - p.padding;  // wraps where it leaves the source
      const std::size_t x = pixel % p.out_width * p.stride + j - p.padding;
      if (y >= p.height || x >= p.width) continue;
      for (std::size_t b = 0; b < p.channels; ++b) {
        sum += c.spike(frame, y, x, b) * c.weights[((m * p.channels + b) * p.kernel_height + i) * p.kernel_width + j];
      }
    }
  }
  return sum;
}

struct Prepared {
  explicit Prepared(const Case& c)
      : weights(c.plan.weight_bytes()),
        positions(c.plan.positions_bytes()),
        starts(c.plan.starts_bytes()),
        local(c.plan.list_bytes()),
        task{c.plan, {positions.data, starts.data}, weights.data, local.data, false} {
    pack_event_weights(c.plan, c.weights.data(), weights.data);
  }
  Aligned<std::int8_t> weights;
  Aligned<std::uint16_t> positions;
  Aligned<std::uint32_t> starts, local;
  EventTask task;
};

// Results of either width, in tiles, with gaps between rows that must stay as they were.
template <class Number>
bool check(const Case& c, const Level& level, std::mt19937_64& random) {
  Prepared prepared(c);
  EventTask& task = prepared.task;
  task.narrow = sizeof(Number) == 2;
  const std::size_t lines = c.plan.lines(), middle = random() % (lines + 1);
  level.events->list_spikes(c.plan, c.edge(), task.lists, middle, lines);
  level.events->list_spikes(c.plan, c.edge(), task.lists, 0, middle);
  const std::size_t lanes = (c.plan.outputs + 15) / 16 * 16, stride = lanes + random() % 3;
  const std::size_t row = stride * c.plan.frames;
  std::vector<Number> out(c.out_pixels * row, -77);
  const std::size_t split = random() % (c.plan.blocks() + 1);
  for (std::size_t first = 0; first < c.out_pixels;) {
    const std::size_t pixels = std::min<std::size_t>(1 + random() % 9, c.out_pixels - first);
    const EventOutput to{out.data() + first * row, row, stride};
    level.events->event_rows(task, first, pixels, 0, split, to);
    level.events->event_rows(task, first, pixels, split, c.plan.blocks(), to);
    first += pixels;
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t m = i % stride, at = i / stride;
    if (m >= c.plan.outputs && m < lanes) continue;
    const std::int32_t exact = m < lanes ? expected(c, at / c.plan.frames, at % c.plan.frames, m) : -77;
    if (out[i] == static_cast<Number>(exact)) continue;
    const EventPlan& p = c.plan;
    std::printf("%s, %zu bytes: source %zux%zux%zu, kernel %zux%zu, stride %zu, padding %zu, outputs %zu, largest %zu: "
                "row %zu lane %zu is %d, not %d\n",
                level.name, sizeof(Number), p.channels, p.height, p.width, p.kernel_height, p.kernel_width, p.stride,
                p.padding, p.outputs, p.largest, at, m, int{out[i]}, exact);
    return false;
  }
  return true;
}

int test(std::size_t cases, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::initializer_list<std::size_t> values) { return values.begin()[random() % values.size()]; };
  for (std::size_t i = 0; i < cases; ++i) {
    EventPlan p;
    p.channels = pick({1, 3, 7, 8, 16, 31, 32, 33, 64, 65, 100});
    p.height = pick({1, 2, 3, 5, 8});
    p.width = pick({1, 2, 3, 5, 9});
    p.frames = pick({1, 2, 4});
    p.kernel_height = std::min(p.height, pick({1, 2, 3, 5}));
    p.kernel_width = std::min(p.width, pick({1, 2, 3, 5}));
    if (i % 5 == 0) {  // a Linear
      p.kernel_height = p.height;
      p.kernel_width = p.width;
    } else {
      p.stride = pick({1, 1, 2, 3});
      p.padding = random() % std::min(p.kernel_height, p.kernel_width);
    }
    p.outputs = pick({1, 15, 16, 17, 48, 63, 64, 65, 127, 128, 129, 192, 260});
    const int bits = 1 + static_cast<int>(random() % 8);
    const bool extreme = random() % 3 == 0;
    const bool all_or_none = random() % 3 == 0;
    const double rate = all_or_none ? static_cast<double>(random() % 2) : 0.05 * static_cast<double>(random() % 20);
    const Case c = make_case(p, bits, rate, extreme, random);
    for (const Level& level : levels()) {
      if (!check<std::int16_t>(c, level, random) || !check<std::int32_t>(c, level, random)) return 1;
    }
  }
  std::printf("%zu cases, %zu levels, 16 and 32 bits: equal\n", cases, levels().size());
  return 0;
}

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class F>
double median_seconds(F run) {
  std::vector<double> times;
  const double begin = cpu_seconds();
  while (times.size() < 5 || (times.size() < 40 && cpu_seconds() - begin < 0.05)) {
    const double start = cpu_seconds();
    run();
    times.push_back(cpu_seconds() - start);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// The dense kernel on rows that are gathered the way the engine does it, without its special cases.
double dense_seconds(const Case& c, const Level& level, std::size_t planes) {
  const EventPlan& p = c.plan;
  const std::size_t taps = p.kernel_height * p.kernel_width, row_bytes = taps * c.pixel_bytes();
  const std::size_t words = (row_bytes + 3) / 4, blocks = (p.outputs + 15) / 16, tile = 4 * p.frames;
  const Aligned<std::uint32_t> weights(blocks * planes * words * 64), rows(tile * words * 4 + 64);
  std::vector<std::int32_t> ones(tile), out(tile * blocks * 16);
  std::memset(rows.data, 0x11, rows.size);
  return median_seconds([&] {
    for (std::size_t first = 0; first < c.out_pixels; first += 4) {
      for (std::size_t r = 0; r < tile; ++r) {
        for (std::size_t y = 0; y < p.kernel_height; ++y) {
          std::memcpy(reinterpret_cast<std::uint8_t*>(rows.data + r * words) + y * p.kernel_width * c.pixel_bytes(),
                      c.bits.data() + (first * 7 + y) % 8 * c.pixel_bytes(), p.kernel_width * c.pixel_bytes());
        }
      }
      if (planes == 1) level.dense->count_ones(rows.data, tile, words, ones.data());
      DotTask task{weights.data, planes, rows.data, tile, words, ones.data(), out.data(), blocks * 16, false};
      for (std::size_t b = 0; b < blocks; ++b, task.weights += planes * words * 16) {
        task.out = out.data() + b * 16;
        level.dense->dot_bits(task);
      }
    }
  });
}

void measure(const std::string& only) {
  std::mt19937_64 random(1);
  std::printf("3x3, T = 4, MAC-equivalents per ns; us: lists + rows\n");
  for (const auto& [channels, side] : {std::pair<std::size_t, std::size_t>{64, 32}, {128, 16}, {256, 8}, {512, 4}}) {
    EventPlan p;
    p.channels = p.outputs = channels;
    p.height = p.width = side;
    p.frames = 4;
    p.kernel_height = p.kernel_width = 3;
    p.padding = 1;
    const double macs = 4.0 * 9 * static_cast<double>(channels * channels * side * side);
    for (const Level& level : levels()) {
      if (!only.empty() && only != level.name) continue;
      const Case dense = make_case(p, 4, 0.1, false, random);
      std::printf("%zux%zux%zu %s: dense 1b %.0f, 2b %.0f, 4b %.0f, 8b %.0f |", channels, side, side, level.name,
                  1e-9 * macs / dense_seconds(dense, level, 1), 1e-9 * macs / dense_seconds(dense, level, 2),
                  1e-9 * macs / dense_seconds(dense, level, 4), 1e-9 * macs / dense_seconds(dense, level, 8));
      for (const int bits : {1, 4, 8}) {
        std::printf(" %db:", bits);
        for (const double rate : {0.02, 0.05, 0.1, 0.2, 0.3}) {
          const Case c = make_case(p, bits, rate, false, random);
          Prepared prepared(c);
          EventTask& task = prepared.task;
          task.narrow = true;
          std::vector<std::int16_t> out(4 * 4 * channels);
          const double listed =
              median_seconds([&] { level.events->list_spikes(c.plan, c.edge(), task.lists, 0, c.plan.lines()); });
          const double summed = median_seconds([&] {
            for (std::size_t first = 0; first < c.out_pixels; first += 4) {
              level.events->event_rows(task, first, 4, 0, c.plan.blocks(), {out.data(), 4 * channels, channels});
            }
          });
          std::printf(" %.0f%% %.0f (%.0f+%.0f)", 100 * rate, 1e-9 * macs / (listed + summed), 1e6 * listed,
                      1e6 * summed);
        }
      }
      std::printf("\n");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "--time") {
    measure(argc > 2 ? argv[2] : "");
    return 0;
  }
  return test(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 300, argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0);
}
