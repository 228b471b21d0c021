// The loops are assembly: a compiler would see that nothing in them changes and remove them. Twelve independent
// accumulators hide every latency; sources stay the same, since the time of these instructions does not depend on them.
#include "bench/peak.hpp"

#include <ctime>

#include <algorithm>
#include <stdexcept>

namespace bitspike::bench {
namespace {

struct Mix {
  const char *level, *name;
  double macs;  // of one turn of the loop
  void (*loop)(long turns);
  bool available;
};

#if defined(__x86_64__) && defined(__GNUC__)

// Steps for two accumulators each: shuffles issued in pairs, then their two additions, keep every port busy.
#define BITSPIKE_TWELVE(STEP) \
  STEP("0", "1") STEP("2", "3") STEP("4", "5") STEP("6", "7") STEP("8", "9") STEP("10", "11")

#define BITSPIKE_LOOP(NAME, STEP)                                                                                   \
  void NAME(long turns) {                                                                                           \
    asm volatile("1:\n" BITSPIKE_TWELVE(STEP) "dec %0\n jnz 1b\n vzeroupper\n"                                      \
                 : "+r"(turns)                                                                                      \
                 :                                                                                                  \
                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",         \
                   "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "cc");                                              \
  }

// Registers 12 and 13 are scratch, 14 and 15 the sources.
#define BITSPIKE_POPCOUNT_512(I, J)                                                                                 \
  "vpandq %%zmm14, %%zmm15, %%zmm12\n vpopcntq %%zmm12, %%zmm12\n vpaddq %%zmm12, %%zmm" I ", %%zmm" I "\n"         \
  "vpandq %%zmm14, %%zmm15, %%zmm13\n vpopcntq %%zmm13, %%zmm13\n vpaddq %%zmm13, %%zmm" J ", %%zmm" J "\n"
#define BITSPIKE_TABLE_512(I, J)                                                                                    \
  "vpermb %%zmm14, %%zmm15, %%zmm12\n vpermb %%zmm14, %%zmm15, %%zmm13\n"                                           \
  "vpaddb %%zmm12, %%zmm" I ", %%zmm" I "\n vpaddb %%zmm13, %%zmm" J ", %%zmm" J "\n"
#define BITSPIKE_INT8_512(I, J) \
  "vpdpbusd %%zmm14, %%zmm15, %%zmm" I "\n vpdpbusd %%zmm14, %%zmm15, %%zmm" J "\n"
// Population count of bytes by two shuffles of a nibble table, as AVX2 has no instruction for it.
#define BITSPIKE_COUNT_256(I)                                                                                       \
  "vpand %%ymm14, %%ymm15, %%ymm12\n vpsrlw $4, %%ymm12, %%ymm13\n vpand %%ymm14, %%ymm12, %%ymm12\n"               \
  "vpand %%ymm14, %%ymm13, %%ymm13\n vpshufb %%ymm12, %%ymm15, %%ymm12\n vpshufb %%ymm13, %%ymm15, %%ymm13\n"       \
  "vpaddb %%ymm12, %%ymm" I ", %%ymm" I "\n vpaddb %%ymm13, %%ymm" I ", %%ymm" I "\n"
#define BITSPIKE_POPCOUNT_256(I, J) BITSPIKE_COUNT_256(I) BITSPIKE_COUNT_256(J)
#define BITSPIKE_TABLE_256(I, J)                                                                                    \
  "vpshufb %%ymm14, %%ymm15, %%ymm12\n vpshufb %%ymm14, %%ymm15, %%ymm13\n"                                         \
  "vpaddb %%ymm12, %%ymm" I ", %%ymm" I "\n vpaddb %%ymm13, %%ymm" J ", %%ymm" J "\n"
#define BITSPIKE_INT8_256(I, J)                                                                                     \
  "vpmaddubsw %%ymm14, %%ymm15, %%ymm12\n vpmaddubsw %%ymm14, %%ymm15, %%ymm13\n"                                   \
  "vpmaddwd %%ymm12, %%ymm15, %%ymm12\n vpmaddwd %%ymm13, %%ymm15, %%ymm13\n"                                       \
  "vpaddd %%ymm12, %%ymm" I ", %%ymm" I "\n vpaddd %%ymm13, %%ymm" J ", %%ymm" J "\n"

BITSPIKE_LOOP(popcount_512, BITSPIKE_POPCOUNT_512)
BITSPIKE_LOOP(table_512, BITSPIKE_TABLE_512)
BITSPIKE_LOOP(int8_512, BITSPIKE_INT8_512)
BITSPIKE_LOOP(popcount_256, BITSPIKE_POPCOUNT_256)
BITSPIKE_LOOP(table_256, BITSPIKE_TABLE_256)
BITSPIKE_LOOP(int8_256, BITSPIKE_INT8_256)

std::vector<Mix> mixes() {
  const bool avx2 = __builtin_cpu_supports("avx2");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
  return {
      {"avx2", "popcount", 12 * 256, popcount_256, avx2},
      {"avx2", "table", 12 * 32 * 4, table_256, avx2},  // a byte shuffle looks 4 spikes up for 32 outputs
      {"avx2", "int8", 12 * 32, int8_256, avx2},
      {"avx512", "popcount", 12 * 512, popcount_512, avx512 && __builtin_cpu_supports("avx512vpopcntdq")},
      {"avx512", "table", 12 * 64 * 6, table_512, avx512 && __builtin_cpu_supports("avx512vbmi")},  // 6 for 64
      {"avx512", "int8", 12 * 64, int8_512, avx512 && __builtin_cpu_supports("avx512vnni")},
  };
}

#else

std::vector<Mix> mixes() { return {}; }

#endif

// CPU time of the calling thread: other processes do not stretch it.
double seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double best_rate(const Mix& mix) {
  constexpr long turns = 50000;  // most of a millisecond
  constexpr int repeats = 6;
  mix.loop(turns / 10);  // wakes the wide units
  double best = 0;
  for (int i = 0; i < repeats; ++i) {
    const double start = seconds();
    mix.loop(turns);
    best = std::max(best, mix.macs * turns / (seconds() - start));
  }
  return best;
}

}  // namespace

double peak(const std::string& level, const std::string& mix) {
  std::string accepted;
  for (const Mix& each : mixes()) {
    if (!each.available) continue;
    if (level == each.level && mix == each.name) return best_rate(each);
    accepted += std::string(accepted.empty() ? "" : ", ") + each.level + " " + each.name;
  }
  throw std::invalid_argument("peak of '" + level + " " + mix + "', accepted here: " +
                              (accepted.empty() ? "none" : accepted));
}

std::vector<std::string> peak_mixes(const std::string& level) {
  std::vector<std::string> names;
  for (const Mix& each : mixes()) {
    if (each.available && level == each.level) names.emplace_back(each.name);
  }
  return names;
}

}  // namespace bitspike::bench
