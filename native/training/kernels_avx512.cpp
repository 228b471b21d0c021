#include "tasks.hpp"

#if defined(__AVX512F__)
#define BITSPIKE_TRAINING_LEVEL "avx512"
#define BITSPIKE_TRAINING_BYTES 64  // of a register
#include "kernels.inl"
#endif

namespace bitspike::training {

const Kernels* avx512_kernels() {
#if defined(__AVX512F__)
  return &kKernels;
#else
  return nullptr;
#endif
}

}  // namespace bitspike::training
