#include "dispatch.hpp"

#include <cstdlib>
#include <stdexcept>

namespace bitspike {
namespace {

// The builtin also asks the operating system whether it saves the wide registers.
#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt") && __builtin_cpu_supports("bmi"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
}
#else
bool has_avx2() { return false; }
bool has_avx512() { return false; }
#endif

}  // namespace

std::vector<const Kernels*> available_levels() {
  std::vector<const Kernels*> levels{&portable_kernels()};
  if (has_avx2() && avx2_kernels()) levels.push_back(avx2_kernels());
  if (has_avx512() && avx512_kernels()) levels.push_back(avx512_kernels());
  return levels;
}

const Kernels& select_level(const std::string& name) {
  const char* environment = std::getenv("BITSPIKE_LEVEL");
  const std::string wanted = name.empty() && environment ? environment : name;
  const auto levels = available_levels();
  if (wanted.empty()) return *levels.back();
  std::string accepted;
  for (const Kernels* level : levels) {
    if (wanted == level->name) return *level;
    accepted += std::string(accepted.empty() ? "" : ", ") + level->name;
  }
  throw std::invalid_argument("level is '" + wanted + "', available on this machine: " + accepted);
}

}  // namespace bitspike
