#include "tasks.hpp"

#if defined(__AVX2__)
#define BITSPIKE_TRAINING_LEVEL "avx2"
#define BITSPIKE_TRAINING_BYTES 32  // of a register
#include "kernels.inl"
#endif

namespace bitspike::training {

const Kernels* avx2_kernels() {
#if defined(__AVX2__)
  return &kKernels;
#else
  return nullptr;
#endif
}

}  // namespace bitspike::training
