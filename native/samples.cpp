#include "samples.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace bitspike {
namespace {

using Data = std::vector<std::uint8_t>;

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw InputError(path + ": " + reason);
}

std::string times(const std::vector<std::uint64_t>& sizes) {
  std::string text;
  for (const std::uint64_t size : sizes) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "(" + text + (sizes.size() == 1 ? ",)" : ")");
}

Data read_all(const std::string& path) {
  constexpr std::size_t kPiece = 1 << 16;
  const auto close = [](std::FILE* f) {
    if (f != stdin) std::fclose(f);
  };
  const std::unique_ptr<std::FILE, decltype(close)> file(path == "-" ? stdin : std::fopen(path.c_str(), "rb"), close);
  if (!file) refuse(path, std::string("cannot be read (") + std::strerror(errno) + ")");
  Data bytes;
  for (std::size_t count = kPiece; count == kPiece;) {
    const std::size_t size = bytes.size();
    bytes.resize(size + kPiece);
    count = std::fread(bytes.data() + size, 1, kPiece, file.get());
    bytes.resize(size + count);
  }
  if (std::ferror(file.get())) refuse(path, std::string("cannot be read (") + std::strerror(errno) + ")");
  return bytes;
}

bool ends_with(const std::string& text, const char* ending) {
  const std::size_t size = std::strlen(ending);
  return text.size() >= size && text.compare(text.size() - size, size, ending) == 0;
}

std::vector<std::uint64_t> sample_shape(const bitspike_shape& s) {
  if (s.frames == 1) return {s.channels, s.height, s.width};
  return {s.frames, s.channels, s.height, s.width};
}

// The text after `key` in the dictionary of an .npy header, which Python writes as {'descr': '|u1', ...}.
std::string npy_entry(const std::string& path, const std::string& header, const std::string& key) {
  const std::size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) refuse(path, "the array's header has no " + key);
  const std::size_t begin = header.find_first_not_of(' ', at + key.size() + 3);
  if (begin == std::string::npos) refuse(path, "the array's header has no " + key);
  return header.substr(begin);
}

std::vector<std::uint64_t> npy_shape(const std::string& path, const std::string& text) {
  std::vector<std::uint64_t> sizes;
  const std::size_t end = text.find(')');
  if (text[0] != '(' || end == std::string::npos) refuse(path, "the array's header has no valid shape");
  for (std::size_t i = 1; i < end;) {
    std::uint64_t size = 0;
    std::size_t digits = 0;
    for (; text[i] >= '0' && text[i] <= '9' && digits < 12; ++i, ++digits) {
      size = size * 10 + static_cast<std::uint64_t>(text[i] - '0');
    }
    if (digits == 0) refuse(path, "the array's header has no valid shape");
    sizes.push_back(size);
    while (text[i] == ',' || text[i] == ' ') ++i;
  }
  return sizes;
}

void read_npy(const std::string& path, const bitspike_shape& shape, Data& bytes) {
  if (bytes.size() < 12 || std::memcmp(bytes.data(), "\x93NUMPY", 6) != 0) refuse(path, "is no .npy file");
  const bool first_version = bytes[6] == 1;
  const std::size_t begin = first_version ? 10 : 12;
  std::uint64_t length = bytes[8] | bytes[9] << 8;
  if (!first_version) length |= std::uint64_t{bytes[10]} << 16 | std::uint64_t{bytes[11]} << 24;
  if (length > bytes.size() - begin) refuse(path, "the array's header is cut off");
  const std::string header(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                           bytes.begin() + static_cast<std::ptrdiff_t>(begin + length));
  const auto starts = [](const std::string& text, const char* with) { return text.rfind(with, 0) == 0; };
  const std::string type = npy_entry(path, header, "descr");
  if (!starts(type, "'|u1'")) refuse(path, "values are " + type.substr(0, type.find(',')) + ", accepted: uint8 ('|u1')");
  if (!starts(npy_entry(path, header, "fortran_order"), "False")) refuse(path, "is in Fortran order, accepted: C order");

  const auto sizes = npy_shape(path, npy_entry(path, header, "shape"));
  const auto one = sample_shape(shape);
  const bool batch = sizes.size() == one.size() + 1;
  if (std::vector<std::uint64_t>(sizes.begin() + batch, sizes.end()) != one) {
    refuse(path, "the array's shape is " + times(sizes) + ", accepted: " + times(one) + " or any number of them");
  }
  bytes.erase(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(begin + length));
  const std::uint64_t count = batch ? sizes[0] : 1;  // below 10^12; a sample has less than 2^58 bytes, hence no product
  if (bytes.size() % shape.sample_bytes != 0 || bytes.size() / shape.sample_bytes != count) {
    refuse(path, "has " + std::to_string(bytes.size()) + " bytes of data for an array of shape " + times(sizes));
  }
}

// A number of an image's header; spaces and comments may stand before it.
std::uint32_t pnm_number(const std::string& path, const Data& bytes, std::size_t& at) {
  while (at < bytes.size() && (std::strchr(" \t\r\n", bytes[at]) || bytes[at] == '#')) {
    if (bytes[at++] == '#') {
      while (at < bytes.size() && bytes[at] != '\n') ++at;
    }
  }
  std::uint32_t value = 0;
  std::size_t digits = 0;
  for (; at < bytes.size() && bytes[at] >= '0' && bytes[at] <= '9' && digits < 9; ++at, ++digits) {
    value = value * 10 + static_cast<std::uint32_t>(bytes[at] - '0');
  }
  if (digits == 0) refuse(path, "the image's header is damaged");
  return value;
}

void read_image(const std::string& path, const bitspike_shape& shape, Data& bytes, std::uint32_t channels) {
  const char* magic = channels == 1 ? "P5" : "P6";
  if (bytes.size() < 2 || std::memcmp(bytes.data(), magic, 2) != 0) {
    refuse(path, std::string("is no binary image (its first bytes must be ") + magic + ")");
  }
  if (shape.channels != channels || shape.frames != 1) {
    refuse(path, "an image of " + std::to_string(channels) + " channels for a network that reads " +
                     times(sample_shape(shape)) + ", accepted: .raw or .npy");
  }
  std::size_t at = 2;
  const std::uint32_t width = pnm_number(path, bytes, at), height = pnm_number(path, bytes, at);
  const std::uint32_t most = pnm_number(path, bytes, at);
  if (width != shape.width || height != shape.height) {
    refuse(path, "the image is " + std::to_string(height) + " x " + std::to_string(width) + ", the network reads " +
                     std::to_string(shape.height) + " x " + std::to_string(shape.width));
  }
  if (most != 255) refuse(path, "the largest value is " + std::to_string(most) + ", accepted: 255");
  ++at;  // one space character
  const std::size_t pixels = std::size_t{width} * height;
  if (at > bytes.size() || bytes.size() - at != shape.sample_bytes) {
    refuse(path, "the image has " + std::to_string(at > bytes.size() ? 0 : bytes.size() - at) + " bytes of pixels, expected " +
                     std::to_string(shape.sample_bytes));
  }
  Data sample(shape.sample_bytes);  // pixel by pixel to channel by channel
  for (std::size_t p = 0; p < pixels; ++p) {
    for (std::size_t c = 0; c < channels; ++c) sample[c * pixels + p] = bytes[at + p * channels + c];
  }
  bytes = std::move(sample);
}

}  // namespace

Data read_samples(const std::string& path, const bitspike_shape& shape) {
  const bool raw = path == "-" || ends_with(path, ".raw"), npy = ends_with(path, ".npy");
  const bool pgm = ends_with(path, ".pgm"), ppm = ends_with(path, ".ppm");
  if (!raw && !npy && !pgm && !ppm) refuse(path, "unknown ending, accepted: .raw, .npy, .pgm, .ppm");
  Data bytes = read_all(path);
  if (npy) read_npy(path, shape, bytes);
  if (pgm || ppm) read_image(path, shape, bytes, pgm ? 1 : 3);
  if (raw && bytes.size() % shape.sample_bytes != 0) {
    refuse(path, std::to_string(bytes.size()) + " bytes are no multiple of a sample's " + std::to_string(shape.sample_bytes));
  }
  return bytes;
}

}  // namespace bitspike
