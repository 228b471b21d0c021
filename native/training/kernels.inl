// All kernels of one level. The file of each level includes this once; all of it is local to that file, or the linker
// might hand the code of a wide level to a processor that lacks it.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "tasks.hpp"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace bitspike::training {
namespace {

#include "lanes.inl"

#include "surrogates.inl"

#include "scan.inl"

#include "adaptive.inl"

#include "kinds.inl"

#include "window.inl"

#include "winograd_lines.inl"

#include "winograd_points.inl"

#include "winograd.inl"

constexpr Kernels kKernels{BITSPIKE_TRAINING_LEVEL,
                           {{scan_kernels<float>(), scan_kernels<double>()}},
                           {{window_kernels<float>(), window_kernels<double>()}},
                           {{winograd_kernels<float>(), winograd_kernels<double>()}}};

}  // namespace
}  // namespace bitspike::training
