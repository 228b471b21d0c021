// The Python module bitspike._training: kernels on plain addresses. Arguments are checked in bitspike/ops/native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../dispatch.hpp"
#include "pages.hpp"
#include "tasks.hpp"
#include "threads.hpp"

namespace nb = nanobind;

namespace bitspike::training {
namespace {

using Address = std::uintptr_t;

constexpr std::size_t kWidth = 1024;            // neurons of a block
constexpr std::size_t kWorthAThread = 1 << 15;  // numbers
constexpr std::size_t kMostThreads = 64;
constexpr std::size_t kBeyondCaches = 16 << 20;  // bytes of a result that would only drive out what is worth keeping

// The kernels of a level that select_level() accepts; "" is the widest, or what BITSPIKE_LEVEL names.
const Kernels& kernels_of(const std::string& wanted) {
  const std::string level = select_level(wanted).name;
  for (const Kernels* found : {avx512_kernels(), avx2_kernels()}) {
    if (found && found->name == level) return *found;
  }
  return *portable_kernels();
}

const Kernels*& chosen() {
  static const Kernels* kernels = &kernels_of("");
  return kernels;
}

const Kernels& kernels() { return *chosen(); }

constexpr std::size_t number_size(bool wide) { return wide ? sizeof(double) : sizeof(float); }

const void* in(Address address) { return reinterpret_cast<const void*>(address); }

void require(bool met, const char* message) {
  if (!met) throw std::invalid_argument(message);
}

// Calls kernel(task, first, count, scratch, sums) for blocks of neurons on up to `threads` threads, with `scratch` bytes
// per thread; returns the sums. Neither blocks nor the order in which their sums are added depend on the threads.
template <class Task, class Kernel>
std::vector<double> for_blocks(const Task& task, Kernel kernel, std::size_t scratch, std::size_t sum_count,
                               unsigned threads) {
  const std::size_t blocks = (task.features + kWidth - 1) / kWidth;
  const std::size_t useful = std::min({blocks, 1 + task.features * task.steps / kWorthAThread, kMostThreads});
  const auto parts = static_cast<unsigned>(std::max<std::size_t>(1, std::min<std::size_t>(useful, threads)));
  // All memory is asked for before the threads start: nothing may throw in them.
  const std::size_t apart = (scratch / kMostBytes + 2) * kMostBytes;
  const std::unique_ptr<std::byte[]> memory(new std::byte[apart * parts + kMostBytes]);
  std::byte* const aligned = memory.get() + (kMostBytes - reinterpret_cast<Address>(memory.get()) % kMostBytes);
  std::vector<double> sums(blocks * sum_count, 0.0);
  run_parts(parts, [&](unsigned part) {
    for (std::size_t block = blocks * part / parts; block < blocks * (part + 1) / parts; ++block) {
      const std::size_t first = block * kWidth;
      kernel(task, first, std::min(kWidth, task.features - first), aligned + apart * part,
             sums.data() + block * sum_count);
    }
  });
  std::vector<double> total(sum_count, 0.0);
  for (std::size_t i = 0; i < sums.size(); ++i) total[i % sum_count] += sums[i];
  return total;
}

void* result(Address out, std::size_t steps, std::size_t features, bool wide) {
  void* const to = reinterpret_cast<void*>(out);
  ask_for_large_pages(to, steps * features * number_size(wide));
  return to;
}

bool streamed(const void* out, std::size_t steps, std::size_t features, bool wide) {
  const std::size_t row = features * number_size(wide);
  return steps * row >= kBeyondCaches && row % kMostBytes == 0 && reinterpret_cast<Address>(out) % kMostBytes == 0;
}

void scan_forward(Address current, Address out, std::size_t steps, std::size_t features, std::size_t current_stride,
                  bool wide, unsigned kind, double leak, double gain, double threshold, double strength, double decay,
                  unsigned threads) {
  require(kind < kKinds, "unknown kind of neuron");
  const nb::gil_scoped_release release;
  ScanTask task{};
  task.current = in(current);
  task.out = result(out, steps, features, wide);
  task.steps = steps;
  task.features = features;
  task.current_stride = current_stride;
  task.leak = leak;
  task.gain = gain;
  task.threshold = threshold;
  task.strength = strength;
  task.decay = decay;
  task.streamed = streamed(task.out, steps, features, wide);
  for_blocks(task, kernels().scan[wide].forward[kind], 0, 0, threads);
}

// The gradients by leak and gain, 0 unless `learned`.
std::pair<double, double> scan_backward(Address current, Address by_output, Address out, std::size_t steps,
                                        std::size_t features, std::size_t current_stride, std::size_t by_output_stride,
                                        bool wide, unsigned kind, double leak, double gain, double threshold,
                                        double strength, double decay, unsigned surrogate, double shape,
                                        bool detach_reset, bool spatial, bool learned, unsigned threads) {
  require(kind < kKinds && surrogate < kSurrogates, "unknown kind of neuron or surrogate");
  const nb::gil_scoped_release release;
  ScanTask task{};
  task.current = in(current);
  task.by_output = in(by_output);
  task.out = result(out, steps, features, wide);
  task.steps = steps;
  task.features = features;
  task.current_stride = current_stride;
  task.by_output_stride = by_output_stride;
  task.leak = leak;
  task.gain = gain;
  task.threshold = threshold;
  task.strength = strength;
  task.decay = decay;
  task.shape = shape;
  task.detach_reset = detach_reset;
  task.spatial = spatial;
  task.learned = learned;
  task.streamed = streamed(task.out, steps, features, wide);
  const std::size_t scratch = scan_scratch(static_cast<Kind>(kind), steps);
  const auto sums = for_blocks(task, kernels().scan[wide].backward[surrogate][kind], scratch, 2, threads);
  return {sums[0], sums[1]};
}

void window_forward(Address current, Address taps, Address threshold, Address out, std::size_t steps,
                    std::size_t features, std::size_t current_stride, bool wide, std::size_t order, bool shared_taps,
                    bool shared_threshold, unsigned threads) {
  const nb::gil_scoped_release release;
  WindowTask task{};
  task.current = in(current);
  task.out = result(out, steps, features, wide);
  task.steps = steps;
  task.features = features;
  task.current_stride = current_stride;
  task.taps = in(taps);
  task.threshold = in(threshold);
  task.order = order;
  task.shared_taps = shared_taps;
  task.shared_threshold = shared_threshold;
  for_blocks(task, kernels().window[wide].forward, 0, 0, threads);
}

// The gradients by the taps, then by the thresholds.
std::vector<double> window_backward(Address current, Address by_output, Address taps, Address threshold, Address out,
                                    std::size_t steps, std::size_t features, std::size_t current_stride,
                                    std::size_t by_output_stride, bool wide, std::size_t order, bool shared_taps,
                                    bool shared_threshold, unsigned surrogate, double shape, unsigned threads) {
  require(surrogate < kSurrogates, "unknown surrogate");
  const nb::gil_scoped_release release;
  WindowTask task{};
  task.current = in(current);
  task.by_output = in(by_output);
  task.out = result(out, steps, features, wide);
  task.steps = steps;
  task.features = features;
  task.current_stride = current_stride;
  task.by_output_stride = by_output_stride;
  task.taps = in(taps);
  task.threshold = in(threshold);
  task.order = order;
  task.shared_taps = shared_taps;
  task.shared_threshold = shared_threshold;
  task.shape = shape;
  const std::size_t scratch = order * kWidth * number_size(wide);
  return for_blocks(task, kernels().window[wide].backward[surrogate], scratch,
                    task.tap_count() + task.threshold_count(), threads);
}

Maps maps_of(Address numbers, std::size_t images, std::size_t height, std::size_t width, std::size_t channels) {
  return {in(numbers), images, height, width, channels};
}

void conv_forward(Address input, Address weights, Address bias, Address out, std::size_t images, std::size_t height,
                  std::size_t width, std::size_t inputs, std::size_t outputs, std::size_t output_stride,
                  std::size_t input_stride, bool turned, bool wide, unsigned threads) {
  const nb::gil_scoped_release release;
  const WinogradTask task{maps_of(input, images, height, width, inputs), in(weights), in(bias),
                          reinterpret_cast<void*>(out), outputs, output_stride, input_stride, turned,
                          streamed(in(out), images * height * width, outputs, wide)};
  winograd_forward(task, kernels().winograd[wide], number_size(wide), threads);
}

void conv_by_weights(Address input, Address by_output, Address by_weights, std::size_t images, std::size_t height,
                     std::size_t width, std::size_t inputs, std::size_t outputs, bool wide, unsigned threads) {
  const nb::gil_scoped_release release;
  const WinogradWeightTask task{maps_of(input, images, height, width, inputs),
                                maps_of(by_output, images, height, width, outputs),
                                reinterpret_cast<void*>(by_weights)};
  winograd_by_weights(task, kernels().winograd[wide], number_size(wide), threads);
}

}  // namespace
}  // namespace bitspike::training

NB_MODULE(_training, m) {
  using namespace bitspike::training;
  m.def("level", [] { return std::string(kernels().name); });
  m.def("select_level", [](const std::string& name) { chosen() = &kernels_of(name); });  // not while kernels run
  m.def("scan_forward", &scan_forward);
  m.def("scan_backward", &scan_backward);
  m.def("window_forward", &window_forward);
  m.def("window_backward", &window_backward);
  m.def("winograd_forward", &conv_forward);
  m.def("winograd_by_weights", &conv_by_weights);
}
