// Pages of 2 MiB for results that come fresh from the operating system every time. Such memory is cleared when first
// written to, and page by page of 4 kB that takes several times as long as the kernel that writes.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bitspike::training {

constexpr std::size_t kKept = 32 << 20;  // bytes up to which the C library may keep freed memory for the next result

// A wish: where the system does not grant it, or knows no such pages, nothing changes.
inline void ask_for_large_pages([[maybe_unused]] void* from, [[maybe_unused]] std::size_t bytes) {
#if defined(__linux__)
  if (bytes <= kKept) return;
  constexpr std::uintptr_t kLarge = 1 << 21;
  const auto first = reinterpret_cast<std::uintptr_t>(from), last = first + bytes;
  const std::uintptr_t begin = (first + kLarge - 1) / kLarge * kLarge, end = last / kLarge * kLarge;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

}  // namespace bitspike::training
