#define BITSPIKE_TRAINING_LEVEL "portable"
#define BITSPIKE_TRAINING_BYTES 16  // of a register
#include "kernels.inl"

namespace bitspike::training {

const Kernels* portable_kernels() { return &kKernels; }

}  // namespace bitspike::training
