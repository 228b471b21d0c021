// What the training kernels do: the work on one sequence as plain data, and the tables of functions that do it.
//
// Neurons with a leak: with the carried membrane c, 0 at the start, and the current x, every step is
//
//     u = leak * c + gain * x      s = fire(u)      c = rest(u, s)
//
// Membranes stay in registers over all steps; nothing but the current is kept for backward, which runs forward again for
// a few registers of neurons and goes back through their membranes. Every product and sum is rounded on its own, in the
// order of the tensor reference, so spikes are the same bit for bit.
//
// Windows: h[t] = sum over i of taps[i, t] * x[t - order + 1 + i], a spike where h[t] is above threshold[t].
//
// Sequences are rows of `features` numbers, one row per step, `..._stride` numbers apart; results stand without gaps.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "winograd.hpp"

namespace bitspike::training {

enum class Kind : unsigned {  // how it fires and resets
  hard,
  soft,
  ternary_hard,
  ternary_soft,
  integer,
  reach_hard,
  reach_soft,
  adaptive_hard,  // see adaptive.inl
  adaptive_soft
};
constexpr std::size_t kKinds = 9;

enum class Surrogate : unsigned { triangle, sigmoid, atan, rectangle };
constexpr std::size_t kSurrogates = 4;

constexpr std::size_t kAbreast = 8;     // registers of neurons that take a step together
constexpr std::size_t kMostBytes = 64;  // of a register

struct ScanTask {
  const void *current, *by_output;  // by_output: gradient of the loss by the output
  void* out;                        // outputs, or the gradient by the current
  std::size_t steps, features, current_stride, by_output_stride;
  double leak, gain;
  double threshold;        // of an integer neuron: its largest output
  double strength, decay;  // of an adaptive neuron: how far its threshold rises and how slowly it falls
  double shape;            // the surrogate's width or slope
  bool detach_reset;       // no gradient through the reset's spike
  bool spatial;            // no gradient through the carried membrane; not of an adaptive neuron
  bool learned;            // sums[0] and sums[1] get the gradients by leak and gain
  bool streamed;           // results go past the caches; rows are aligned to a register
};

struct WindowTask {
  const void *current, *by_output;
  void* out;
  std::size_t steps, features, current_stride, by_output_stride;
  const void* taps;       // [order][steps], or [order] where all steps share them
  const void* threshold;  // [steps], or one
  std::size_t order;
  bool shared_taps, shared_threshold;
  double shape;

  std::size_t tap_count() const { return order * (shared_taps ? 1 : steps); }
  std::size_t threshold_count() const { return shared_threshold ? 1 : steps; }
};

// Neurons first to first + count. Backward adds its sums up in `sums`; `scratch` is aligned to a register.
using ScanBlock = void (*)(const ScanTask& task, std::size_t first, std::size_t count, void* scratch, double* sums);
using WindowBlock = void (*)(const WindowTask& task, std::size_t first, std::size_t count, void* scratch, double* sums);

struct ScanKernels {
  std::array<ScanBlock, kKinds> forward;
  std::array<std::array<ScanBlock, kKinds>, kSurrogates> backward;  // scratch: see scan_scratch()
};

// Bytes that backward needs beside its arguments, for `kind`.
constexpr std::size_t scan_scratch(Kind kind, std::size_t steps) {
  return (2 + steps * (kind < Kind::adaptive_hard ? 1 : 2)) * kAbreast * kMostBytes;
}

struct WindowKernels {
  WindowBlock forward;
  std::array<WindowBlock, kSurrogates> backward;  // scratch: [order][count] numbers
};

// All kernels of one instruction set level, for float and for double.
struct Kernels {
  const char* name;
  std::array<ScanKernels, 2> scan;
  std::array<WindowKernels, 2> window;
  std::array<WinogradKernels, 2> winograd;
};

const Kernels* portable_kernels();
const Kernels* avx2_kernels();  // null where this build has none
const Kernels* avx512_kernels();

}  // namespace bitspike::training
