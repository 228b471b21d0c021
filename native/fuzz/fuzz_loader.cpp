// Throws damaged and hostile files at the loader. Whatever the bytes are, it must either refuse them with a
// FormatError or give a network that runs; anything else ends the process (build with sanitizers).
//
//   fuzz_loader CORPUS_DIR [--cases N] [--seed S] [--seconds T]
//
// Files of CORPUS_DIR are valid artifacts. Every second case is repaired: its checksums and lengths agree with its
// contents, so that the damage reaches the code behind them. Prints one line of JSON. With BITSPIKE_LIBFUZZER the same
// check is a libFuzzer target.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "dispatch.hpp"
#include "network.hpp"
#include "expected.hpp"

namespace {

using bitspike::Network;
using File = std::vector<std::uint8_t>;
using Random = std::mt19937_64;

constexpr std::size_t kHeader = 24, kEntry = 32;
constexpr std::uint64_t kMemory = std::uint64_t{1} << 19, kMuchMemory = std::uint64_t{1} << 23;
constexpr std::uint64_t kMaxWork = std::uint64_t{1} << 20;  // operations of one sample that are worth waiting for

template <class T>
T get(const File& file, std::size_t at) {
  T value;
  std::memcpy(&value, file.data() + at, sizeof value);
  return value;
}

template <class T>
void put(File& file, std::size_t at, T value) {
  std::memcpy(file.data() + at, &value, sizeof value);
}

std::size_t section_count(const File& file) {
  if (file.size() < kHeader) return 0;
  return std::min<std::size_t>(get<std::uint32_t>(file, 16), (file.size() - kHeader) / kEntry);
}

// Makes length and checksums agree with whatever the rest of the file says.
void repair(File& file) {
  if (file.size() < kHeader) return;
  const std::size_t count = section_count(file);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t entry = kHeader + i * kEntry;
    const auto offset = get<std::uint64_t>(file, entry + 8), size = get<std::uint64_t>(file, entry + 16);
    if (offset > file.size() || size > file.size() - offset) continue;
    put(file, entry + 24, bitspike::crc32c({file.data() + offset, size}));
  }
  put(file, 8, std::uint64_t{file.size()});
  put(file, 20, std::uint32_t{0});
  put(file, 20, bitspike::crc32c({file.data(), kHeader + count * kEntry}));
}

std::uint64_t work(const bitspike::Graph& graph) {
  std::uint64_t total = 0;
  for (const auto& node : graph.nodes) {
    const std::uint64_t window = std::uint64_t{std::max(node.kernel_height, 1u)} * std::max(node.kernel_width, 1u);
    const std::uint64_t each = node.weighted() ? node.weight_inputs : std::min(window, graph.input().pixels() + 64);
    if (node.size() > kMaxWork || each > kMaxWork) return kMaxWork + 1;
    total += node.size() * graph.time_steps * (each + 16);
    if (total > kMaxWork) return total;
  }
  return total;
}

enum class Outcome { Refused, Loaded, Ran };

Outcome check(const File& file) {
  static const auto levels = bitspike::available_levels();
  static const auto choices = bitspike::fuzz::kernel_choices();
  static std::uint64_t turn = 0;
  ++turn;
  try {
    const auto& choice = choices[turn / levels.size() % choices.size()];
    const Network network(file, *levels[turn % levels.size()], turn % 16 ? kMemory : kMuchMemory, choice);
    const auto& graph = network.graph();
    if (work(graph) > kMaxWork) return Outcome::Loaded;
    std::vector<std::uint8_t> sample(graph.sample_size());
    for (std::size_t i = 0; i < sample.size(); ++i) sample[i] = static_cast<std::uint8_t>(i * 37 + 11);
    std::vector<std::int32_t> logits(graph.readout().channels);
    Network::Outputs outputs;
    outputs.logits = logits.data();
    network.run(sample.data(), 1, outputs, turn % 8 ? 1 : 2);
    if (graph.test_vectors.count <= 3) network.self_test();  // mostly fails: the network was changed
    return Outcome::Ran;
  } catch (const bitspike::FormatError& error) {
    return std::strncmp(error.what(), "TESTVEC: the ", 13) == 0 ? Outcome::Ran : Outcome::Refused;
  }
}

#ifndef BITSPIKE_LIBFUZZER

class Mutator {
 public:
  Mutator(std::vector<File> corpus, std::uint64_t seed) : corpus_(std::move(corpus)), random_(seed) {}

  File next(bool repaired) {
    File file = corpus_[below(corpus_.size())];
    for (std::size_t left = 1 + below(3); left > 0; --left) repaired ? change_field(file) : change_bytes(file);
    if (repaired) repair(file);
    return file;
  }

 private:
  std::size_t below(std::size_t bound) { return bound ? random_() % bound : 0; }

  std::uint32_t interesting() {
    static constexpr std::uint32_t values[] = {0, 1, 2, 3, 4, 7, 8, 9, 16, 24, 25, 127, 128, 255, 256, 1024, 1025, 4096,
                                               65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
    return below(4) == 0 ? static_cast<std::uint32_t>(random_()) : values[below(std::size(values))];
  }

  // Damage anywhere, with no regard for structure.
  void change_bytes(File& file) {
    if (file.empty()) return;
    const std::size_t at = below(file.size());
    switch (below(4)) {
      case 0:
        file[at] ^= static_cast<std::uint8_t>(1 + below(255));
        break;
      case 1:
        file.resize(at);
        break;
      case 2:
        file.insert(file.end(), 1 + below(16), static_cast<std::uint8_t>(random_()));
        break;
      default:
        file.erase(file.begin() + static_cast<std::ptrdiff_t>(at));
    }
  }

  // A different number in one place of the table or of a body, or a body of a different length.
  void change_field(File& file) {
    const std::size_t count = section_count(file);
    if (count == 0) return;
    const std::size_t entry = kHeader + below(count) * kEntry;
    const auto offset = get<std::uint64_t>(file, entry + 8), size = get<std::uint64_t>(file, entry + 16);
    if (offset > file.size() || size > file.size() - offset) return;
    switch (below(20)) {
      case 0:
        put(file, kHeader + below(count * kEntry / 4) * 4, interesting());
        break;
      case 3:
        move_record(file, offset, size);
        break;
      case 4:
        splice_body(file, entry);
        break;
      case 1:
        resize_body(file, entry, below(2) ? size + 4 * (1 + below(4)) : below(size + 1));
        break;
      case 2:
        if (size) file[offset + below(size)] ^= static_cast<std::uint8_t>(1 + below(255));
        break;
      default:
        if (size >= 4) {
          const std::size_t at = offset + below(size / 4) * 4;
          put(file, at, nearby(get<std::uint32_t>(file, at)));
        }
    }
  }

  // Copies one node record over another, if the section is GRAPH.
  void move_record(File& file, std::uint64_t offset, std::uint64_t size) {
    constexpr std::uint64_t kRecords = 8, kRecord = 64;
    if (offset != kHeader + section_count(file) * kEntry || size < kRecords + kRecord) return;
    const std::uint64_t count = (size - kRecords) / kRecord, first = offset + kRecords;
    std::memmove(file.data() + first + below(count) * kRecord, file.data() + first + below(count) * kRecord, kRecord);
  }

  // The same section of another file in place of this one.
  void splice_body(File& file, std::size_t entry) {
    const File& other = corpus_[below(corpus_.size())];
    const std::size_t count = section_count(other);
    for (std::size_t from = kHeader; from < kHeader + count * kEntry; from += kEntry) {
      if (get<std::uint32_t>(other, from) != get<std::uint32_t>(file, entry)) continue;
      const auto offset = get<std::uint64_t>(other, from + 8), size = get<std::uint64_t>(other, from + 16);
      resize_body(file, entry, size);
      const auto target = get<std::uint64_t>(file, entry + 8);  // anything, where the body lay over the table
      if (target > file.size() || size > file.size() - target) return;
      std::memcpy(file.data() + target, other.data() + offset, size);
      return;
    }
  }

  std::uint32_t nearby(std::uint32_t value) {
    return below(3) ? interesting() : value + static_cast<std::uint32_t>(below(5)) - 2;
  }

  // Cuts or extends one body and moves what follows, so that the layout stays valid.
  void resize_body(File& file, std::size_t entry, std::uint64_t new_size) {
    const auto offset = get<std::uint64_t>(file, entry + 8), size = get<std::uint64_t>(file, entry + 16);
    const std::uint64_t old_end = offset + size + bitspike::padding(size, 8);
    if (old_end > file.size()) return;
    const auto at = [&](std::uint64_t position) { return file.begin() + static_cast<std::ptrdiff_t>(position); };
    File body(at(offset), at(offset + size));
    body.resize(new_size, static_cast<std::uint8_t>(random_()));
    body.resize(new_size + bitspike::padding(new_size, 8), 0);
    const auto moved = static_cast<std::uint64_t>(body.size()) - (old_end - offset);  // wraps when it shrinks
    body.insert(body.end(), at(old_end), file.end());
    file.resize(offset);
    file.insert(file.end(), body.begin(), body.end());
    put(file, entry + 16, new_size);
    for (std::size_t later = entry + kEntry; later < kHeader + section_count(file) * kEntry; later += kEntry) {
      put(file, later + 8, get<std::uint64_t>(file, later + 8) + moved);
    }
  }

  std::vector<File> corpus_;
  Random random_;
};

#endif

}  // namespace

#ifdef BITSPIKE_LIBFUZZER

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  File file(data, data + size);
  check(file);
  repair(file);
  check(file);
  return 0;
}

#else

int main(int argc, char** argv) {
  std::string directory;
  std::uint64_t cases = 100000, seed = 0;
  double seconds = 0;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : nullptr;
    if (argument.rfind("--", 0) != 0 && directory.empty()) {
      directory = argument;
    } else if (argument == "--cases" && value) {
      cases = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--seed" && value) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else if (argument == "--seconds" && value) {
      seconds = std::strtod(argv[++i], nullptr);
    } else {
      std::fprintf(stderr, "usage: %s CORPUS_DIR [--cases N] [--seed S] [--seconds T]\n", argv[0]);
      return 2;
    }
  }
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".bspk") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  std::vector<File> corpus;
  for (const auto& path : paths) {
    std::ifstream stream(path, std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
    if (check(corpus.back()) == Outcome::Refused) {
      std::fprintf(stderr, "%s: a corpus file must be valid\n", path.c_str());
      return 2;
    }
  }
  if (corpus.empty()) {
    std::fprintf(stderr, "%s: no .bspk files found\n", directory.c_str());
    return 2;
  }

  Mutator mutator(std::move(corpus), seed);
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  unsigned long long outcomes[2][3] = {}, done = 0;
  while (done < cases && (seconds <= 0 || elapsed() < seconds)) {
    const bool repaired = done++ % 2 == 1;
    ++outcomes[repaired][static_cast<int>(check(mutator.next(repaired)))];
  }
  std::printf("{\"cases\": %llu", done);
  for (int repaired = 0; repaired < 2; ++repaired) {
    const auto& o = outcomes[repaired];
    std::printf(", \"%s\": {\"refused\": %llu, \"loaded\": %llu, \"run\": %llu}", repaired ? "repaired" : "raw", o[0], o[1],
                o[2]);
  }
  std::printf("}\n");
  return 0;
}

#endif
