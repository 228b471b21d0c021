#include "dispatch.hpp"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "format.hpp"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <cpuid.h>
#endif

namespace bitspike {
namespace {

// Not the compiler's builtin: that names every processor there is, in 5 kB.
struct Features {
  bool avx2 = false, avx512 = false;

  Features() {
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    constexpr unsigned kFma = 1u << 12, kPopcnt = 1u << 23, kOsSaves = 1u << 27;  // leaf 1, ecx
    constexpr unsigned kBmi = 1u << 3, kAvx2 = 1u << 5;           // leaf 7, ebx
    constexpr unsigned kAvx512 = 1u << 16 | 1u << 30 | 1u << 31;  // leaf 7, ebx: F, BW, VL
    constexpr unsigned kMore = 1u << 1 | 1u << 6 | 1u << 14;      // leaf 7, ecx: VBMI, VBMI2, VPOPCNTDQ
    constexpr unsigned kWide = 0x06, kWidest = 0xE6;              // registers that the system saves
    const auto has = [](unsigned word, unsigned bits) { return (word & bits) == bits; };
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !has(c, kFma | kPopcnt | kOsSaves)) return;
    __asm__("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    avx2 = has(saved, kWide) && has(b, kBmi | kAvx2);
    avx512 = avx2 && has(saved, kWidest) && has(b, kAvx512) && has(c, kMore);
#endif
  }
};

}  // namespace

std::vector<const Kernels*> available_levels() {
  std::vector<const Kernels*> levels{&portable_kernels()};
  const Features features;
  if (features.avx2 && avx2_kernels()) levels.push_back(avx2_kernels());
  if (features.avx512 && avx512_kernels()) levels.push_back(avx512_kernels());
  return levels;
}

const Kernels& select_level(const std::string& name) {
  const char* environment = std::getenv("BITSPIKE_LEVEL");
  const char* wanted = name.empty() && environment ? environment : name.c_str();
  const auto levels = available_levels();
  if (!*wanted) return *levels.back();
  std::string message;
  append(message, "level is '", wanted, "', available on this machine");
  const char* separator = ": ";
  for (const Kernels* level : levels) {
    if (std::strcmp(wanted, level->name) == 0) return *level;
    append(message, separator, level->name);
    separator = ", ";
  }
  throw std::invalid_argument(message);
}

}  // namespace bitspike
