// Spiking self-attention at every level against plain loops: attention_test [--time] [cases] [seed].
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <vector>

#include "events.hpp"

namespace {

using namespace bitspike;

constexpr std::size_t kSlack = 64;

struct Level {
  const char* name;
  const EventKernels* kernels;
};

std::vector<Level> levels() {
  std::vector<Level> all{{"portable", &portable_event_kernels()}};
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
  if (avx2 && avx2_event_kernels()) all.push_back({"avx2", avx2_event_kernels()});
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vl");
  if (avx512 && avx512_event_kernels()) all.push_back({"avx512", avx512_event_kernels()});
  return all;
}

struct Edge {
  std::size_t steps, pixels, channels, pixel_bytes = (channels + 7) / 8;
  std::vector<std::uint8_t> bytes = std::vector<std::uint8_t>(steps * pixels * pixel_bytes + kSlack);

  void fill(std::mt19937_64& random, double rate) {
    std::bernoulli_distribution spike(rate);
    for (std::size_t i = 0; i < steps * pixels; ++i) {
      for (std::size_t c = 0; c < channels; ++c) bytes[i * pixel_bytes + c / 8] |= spike(random) << (c % 8);
    }
    for (std::size_t i = 0; i < kSlack; ++i) bytes[bytes.size() - kSlack + i] = static_cast<std::uint8_t>(random());
  }
  int at(std::size_t step, std::size_t pixel, std::size_t c) const {
    return (bytes[(step * pixels + pixel) * pixel_bytes + c / 8] >> (c % 8)) & 1;
  }
  SpikeBits view() const { return {bytes.data(), pixels * pixel_bytes, pixel_bytes}; }
};

struct Case {
  std::size_t heads, d, dv, queries, tokens, steps;
  Edge query{steps, queries, heads * d}, key{steps, tokens, heads * d}, value{steps, tokens, heads * dv};
};

std::vector<std::int32_t> expected(const Case& c) {
  std::vector<std::int32_t> out(c.queries * c.steps * c.heads * c.dv);
  for (std::size_t t = 0; t < c.steps; ++t) {
    for (std::size_t h = 0; h < c.heads; ++h) {
      for (std::size_t i = 0; i < c.d; ++i) {
        for (std::size_t j = 0; j < c.dv; ++j) {
          std::int32_t pairs = 0;
          for (std::size_t m = 0; m < c.tokens; ++m) {
            pairs += c.key.at(t, m, h * c.d + i) & c.value.at(t, m, h * c.dv + j);
          }
          for (std::size_t n = 0; n < c.queries; ++n) {
            out[(n * c.steps + t) * c.heads * c.dv + h * c.dv + j] += pairs * c.query.at(t, n, h * c.d + i);
          }
        }
      }
    }
  }
  return out;
}

struct Aligned {
  explicit Aligned(std::size_t size) : data(static_cast<std::uint8_t*>(std::aligned_alloc(64, (size + 63) / 64 * 64))) {
    std::memset(data, 0xA5, size);
  }
  ~Aligned() { std::free(data); }
  std::uint8_t* data;
};

// Both orders, in tiles, with a stride wider than the channels; what lies between must stay as it was.
bool check(const Case& c, const Level& level, bool scores, std::mt19937_64& random) {
  AttentionTask task{plan_attention(c.heads, c.heads * c.d, c.heads * c.dv, c.queries, c.tokens, c.steps),
                     c.query.view(), c.key.view(), c.value.view(), nullptr, nullptr};
  task.plan.scores = scores;
  const Aligned shared(task.plan.shared_bytes()), local(task.plan.local_bytes());
  task.shared = shared.data;
  task.local = local.data;
  const std::size_t units = task.plan.units(), middle = units == 0 ? 0 : random() % (units + 1);
  level.kernels->attention.prepare(task, middle, units);
  level.kernels->attention.prepare(task, 0, middle);
  const std::size_t channels = c.heads * c.dv, stride = channels + random() % 3, row = stride * c.steps;
  std::vector<std::int32_t> out(c.queries * row, -7);
  for (std::size_t first = 0; first < c.queries;) {
    const std::size_t pixels = std::min<std::size_t>(1 + random() % 16, c.queries - first);
    level.kernels->attention.currents(task, first, pixels, out.data() + first * row, row, stride);
    first += pixels;
  }
  const std::vector<std::int32_t> correct = expected(c);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::size_t lane = i % stride, at = i / stride;
    const std::int32_t want = lane < channels ? correct[at * channels + lane] : -7;
    if (out[i] == want) continue;
    std::printf("%s %s: heads %zu, d %zu, dv %zu, queries %zu, tokens %zu, steps %zu: row %zu lane %zu is %d, not %d\n",
                level.name, scores ? "scores" : "products", c.heads, c.d, c.dv, c.queries, c.tokens, c.steps, at, lane,
                out[i], want);
    return false;
  }
  return true;
}

int test(std::size_t cases, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto pick = [&](std::initializer_list<std::size_t> values) { return values.begin()[random() % values.size()]; };
  for (std::size_t i = 0; i < cases; ++i) {
    Case c{pick({1, 2, 3, 5}),           pick({1, 3, 8, 13, 16, 32, 63, 64, 65, 130}),
           pick({1, 5, 16, 17, 33, 64, 65, 100}), pick({1, 2, 9, 16, 33}),
           pick({1, 4, 31, 32, 33, 64, 65, 100}), pick({1, 2, 3})};
    if (i % 40 == 0) c = {1, 70, 20, 3, 950, 1};  // sums beyond 16 bits
    const bool full = i % 7 == 0;
    for (Edge* edge : {&c.query, &c.key, &c.value}) edge->fill(random, full ? 1.0 : 0.05 + 0.1 * (random() % 9));
    for (const Level& level : levels()) {
      for (const bool scores : {false, true}) {
        if (!check(c, level, scores, random)) return 1;
      }
    }
  }
  std::printf("%zu cases, %zu levels, both orders: equal\n", cases, levels().size());
  return 0;
}

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void measure() {
  struct Shape {
    std::size_t heads, d, queries, tokens, steps;
  };
  std::mt19937_64 random(1);
  std::printf("microseconds per call, rate 20 %%: prepare + currents (products), scores\n");
  for (const Shape& s : {Shape{6, 64, 64, 64, 4}, Shape{12, 32, 64, 64, 4}, Shape{8, 64, 196, 196, 4},
                         Shape{6, 64, 16, 16, 4}, Shape{6, 64, 4, 4, 4}, Shape{6, 64, 32, 32, 4}}) {
    Case c{s.heads, s.d, s.d, s.queries, s.tokens, s.steps};
    for (Edge* edge : {&c.query, &c.key, &c.value}) edge->fill(random, 0.2);
    for (const Level& level : levels()) {
      AttentionTask task{plan_attention(c.heads, c.heads * c.d, c.heads * c.dv, c.queries, c.tokens, c.steps),
                         c.query.view(), c.key.view(), c.value.view(), nullptr, nullptr};
      const bool chosen = task.plan.scores;
      double best[3] = {1, 1, 1};
      for (const bool scores : {false, true}) {
        task.plan.scores = scores;
        const Aligned shared(task.plan.shared_bytes()), local(task.plan.local_bytes());
        task.shared = shared.data;
        task.local = local.data;
        const std::size_t channels = c.heads * c.dv;
        std::vector<std::int32_t> out(8 * channels * c.steps);
        for (int round = 0; round < 60; ++round) {
          const double start = cpu_seconds();
          level.kernels->attention.prepare(task, 0, task.plan.units());
          const double prepared = cpu_seconds();
          for (std::size_t first = 0; first < c.queries; first += 8) {
            level.kernels->attention.currents(task, first, std::min<std::size_t>(8, c.queries - first), out.data(),
                                              channels * c.steps, channels);
          }
          const double end = cpu_seconds();
          best[scores ? 2 : 0] = std::min(best[scores ? 2 : 0], end - start);
          if (!scores) best[1] = std::min(best[1], prepared - start);
        }
      }
      std::printf("heads %zu d %zu queries %zu tokens %zu steps %zu, %s: products %.1f (prepare %.1f), scores %.1f, "
                  "chosen %s\n",
                  s.heads, s.d, s.queries, s.tokens, s.steps, level.name, 1e6 * best[0], 1e6 * best[1], 1e6 * best[2],
                  chosen ? "scores" : "products");
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::string(argv[1]) == "--time") {
    measure();
    return 0;
  }
  return test(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 400, argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 0);
}
