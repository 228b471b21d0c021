// bitspike-run: a network on sample files, from the command line. Uses the C interface only.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "bitspike.h"
#include "samples.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/resource.h>
#endif

namespace {

constexpr const char* kUsage =
    "usage: bitspike-run MODEL.bspk INPUT... [options]\n"
    "       bitspike-run MODEL.bspk --info | --self-test\n"
    "\n"
    "Prints class and logits of every sample. INPUT is a .raw, .npy (uint8), .pgm or .ppm file, or - for raw bytes from\n"
    "standard input.\n"
    "\n"
    "  --threads N    threads to use, 0 for all processors (1)\n"
    "  --level NAME   kernel level (the fastest)\n"
    "  --limit MIB    memory that the network may use (1024)\n"
    "  --checksum     also print the CRC-32C of each sample's spikes\n"
    "  --time N       run each file N more times and print the time per sample\n"
    "  --memory       print the memory used\n"
    "  --info         print the network\n"
    "  --self-test    run the test vectors stored in the file\n"
    "  --version      print the version\n"
    "\n"
    "Exit status: 0 done, 1 a self-test failed or the system gave up, 2 arguments or files cannot be used.\n";

enum Exit { kDone = 0, kFailed = 1, kRefused = 2 };

struct Options {
  std::string model, level;
  std::vector<std::string> inputs;
  std::uint64_t threads = 1, repetitions = 0, limit_mib = 0;
  bool checksum = false, memory = false, info = false, self_test = false;
};

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A failed call of the library.
struct CallError : std::runtime_error {
  explicit CallError(bitspike_status s) : std::runtime_error(bitspike_error()), status(s) {}
  bitspike_status status;
};

void check(bitspike_status status) {
  if (status != BITSPIKE_OK) throw CallError(status);
}

std::uint64_t number(const std::string& option, const char* text, std::uint64_t low, std::uint64_t high) {
  char* end = nullptr;
  errno = 0;
  const std::uint64_t value = text ? std::strtoull(text, &end, 10) : 0;
  if (!text || *text < '0' || *text > '9' || *end || errno || value < low || value > high) {
    throw UsageError(option + " is " + (text ? "'" + std::string(text) + "'" : "missing its number") + ", accepted: " +
                     std::to_string(low) + " to " + std::to_string(high));
  }
  return value;
}

Options parse(int argc, char** argv) {
  Options o;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&] { return i + 1 < argc ? argv[++i] : nullptr; };
    if (argument == "--threads") {
      o.threads = number(argument, value(), 0, 1024);
    } else if (argument == "--time") {
      o.repetitions = number(argument, value(), 1, 1000000000);
    } else if (argument == "--limit") {
      o.limit_mib = number(argument, value(), 1, 1 << 24);
    } else if (argument == "--level") {
      const char* level = value();
      if (!level || !*level) throw UsageError("--level is missing its name");
      o.level = level;
    } else if (argument == "--checksum") {
      o.checksum = true;
    } else if (argument == "--memory") {
      o.memory = true;
    } else if (argument == "--info") {
      o.info = true;
    } else if (argument == "--self-test") {
      o.self_test = true;
    } else if (argument.size() > 1 && argument[0] == '-') {
      throw UsageError("unknown option " + argument);
    } else if (o.model.empty()) {
      o.model = argument;
    } else {
      o.inputs.push_back(argument);
    }
  }
  if (o.model.empty()) throw UsageError("no model given");
  if (o.inputs.empty() && !o.info && !o.self_test && !o.memory) throw UsageError("no input given");
  return o;
}

// Largest resident memory of this program in KiB, 0 where unknown. Linux also counts what stood in the process before
// this program in getrusage, but not in VmHWM.
unsigned long long peak_kib() {
  if (std::FILE* status = std::fopen("/proc/self/status", "r")) {
    char line[256];
    unsigned long long kib = 0;
    while (kib == 0 && std::fgets(line, sizeof line, status)) std::sscanf(line, "VmHWM: %llu", &kib);
    std::fclose(status);
    if (kib) return kib;
  }
#if defined(__APPLE__)
  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) == 0) return static_cast<unsigned long long>(usage.ru_maxrss) / 1024;
#elif defined(__unix__)
  rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) == 0) return static_cast<unsigned long long>(usage.ru_maxrss);
#endif
  return 0;
}

void print_info(const bitspike_network* network) {
  std::string text(bitspike_describe(network, nullptr, 0), '\0');
  bitspike_describe(network, text.data(), text.size());
  std::fputs(text.c_str(), stdout);
}

void print_time(const Options& o, const bitspike_network* network, const std::vector<std::uint8_t>& samples,
                std::size_t count, std::vector<std::int32_t>& logits) {
  std::vector<double> times;
  for (std::uint64_t r = 0; r < o.repetitions; ++r) {
    const auto start = std::chrono::steady_clock::now();
    check(bitspike_run(network, samples.data(), count, logits.data(), static_cast<unsigned>(o.threads)));
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    times.push_back(time.count() / static_cast<double>(count));
  }
  std::sort(times.begin(), times.end());
  std::printf("time per sample: median %.1f us, best %.1f us (%zu samples, %zu runs, level %s)\n", times[times.size() / 2],
              times[0], count, times.size(), bitspike_level(network));
}

void run_file(const Options& o, const bitspike_network* network, const bitspike_shape& shape, const std::string& path) {
  const auto samples = bitspike::read_samples(path, shape);
  const std::size_t count = samples.size() / shape.sample_bytes, classes = shape.classes;
  const auto threads = static_cast<unsigned>(o.threads);
  std::vector<std::int32_t> logits(count * classes);
  check(bitspike_run(network, samples.data(), count, logits.data(), threads));
  for (std::size_t i = 0; i < count; ++i) {
    const std::int32_t* own = logits.data() + i * classes;
    std::printf("%s[%zu] class %td logits", path.c_str(), i, std::max_element(own, own + classes) - own);
    for (std::size_t c = 0; c < classes; ++c) std::printf(" %d", static_cast<int>(own[c]));
    if (o.checksum) {
      std::uint32_t sum = 0;
      check(bitspike_spike_checksums(network, samples.data() + i * shape.sample_bytes, 1, &sum, threads));
      std::printf(" spikes %08x", static_cast<unsigned>(sum));
    }
    std::putchar('\n');
  }
  if (o.repetitions && count) print_time(o, network, samples, count, logits);
}

int run(const Options& o) {
  bitspike_network* loaded = nullptr;
  check(bitspike_load_file(o.model.c_str(), o.level.empty() ? nullptr : o.level.c_str(), o.limit_mib << 20, &loaded));
  const std::unique_ptr<bitspike_network, decltype(&bitspike_free)> network(loaded, bitspike_free);
  bitspike_shape shape;
  bitspike_get_shape(loaded, &shape);
  if (o.info) print_info(loaded);
  if (o.self_test) {
    check(bitspike_self_test(loaded));
    std::printf("self-test: %u test vectors agree\n", static_cast<unsigned>(shape.test_vectors));
  }
  for (const std::string& path : o.inputs) run_file(o, loaded, shape, path);
  if (o.memory) {
    std::printf("memory: network %llu bytes, peak resident %llu KiB\n",
                static_cast<unsigned long long>(shape.memory_bytes), peak_kib());
  }
  return std::fflush(stdout) == 0 ? kDone : kFailed;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) return std::fputs(kUsage, stdout), kDone;
    if (std::strcmp(argv[i], "--version") == 0) return std::printf("bitspike-run %s\n", bitspike_version()), kDone;
  }
  try {
    return run(parse(argc, argv));
  } catch (const UsageError& error) {
    std::fprintf(stderr, "bitspike-run: %s\n\n%s", error.what(), kUsage);
    return kRefused;
  } catch (const CallError& error) {
    const bool refused = error.status == BITSPIKE_ERROR_FILE || error.status == BITSPIKE_ERROR_FORMAT ||
                         error.status == BITSPIKE_ERROR_ARGUMENT;
    std::fprintf(stderr, "bitspike-run: %s\n", error.what());
    return refused ? kRefused : kFailed;
  } catch (const bitspike::InputError& error) {
    std::fprintf(stderr, "bitspike-run: %s\n", error.what());
    return kRefused;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bitspike-run: %s\n", error.what());
    return kFailed;
  }
}
