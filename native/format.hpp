// The byte level of a .bspk file: a cursor that cannot leave its section, CRC-32C, header and section table.
// The layout is specified in docs/format.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bitspike reads files and packs bits in little-endian order"
#endif

namespace bitspike {

// The file breaks a rule of the format; the message names the place, the value and what is accepted.
class FormatError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A piece of a message: text or an integer. Plain data, so that the many places that may fail are little code.
struct Piece {
  Piece(const char* t) : text(t) {}
  Piece(const std::string& t) : text(t.c_str()) {}
  template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
  Piece(T n) : negative(n < T{0}), magnitude(negative ? 0 - static_cast<std::uint64_t>(n) : static_cast<std::uint64_t>(n)) {}

  const char* text = nullptr;  // null: the integer
  bool negative = false;
  std::uint64_t magnitude = 0;
};

std::string join(const Piece* pieces, std::size_t count);
[[noreturn]] void fail_with(const Piece* pieces, std::size_t count);

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  const Piece pieces[] = {parts...};
  fail_with(pieces, sizeof...(parts));
}

// Bytes owned by someone else.
struct Bytes {
  const std::uint8_t* data = nullptr;
  std::uint64_t size = 0;
};

std::uint32_t crc32c(Bytes bytes, std::uint32_t previous = 0);

// Walks one section from front to back. Every read is checked, and `finish` demands that nothing is left.
class Cursor {
 public:
  Cursor(Bytes bytes, const char* section) : rest_(bytes), section_(section) {}

  Bytes take(std::uint64_t count, const char* what);
  void zeros(std::uint64_t count, const char* what);
  std::uint16_t u16(const char* what);
  std::uint32_t u32(const char* what);
  std::uint64_t u64(const char* what);
  std::uint64_t left() const { return rest_.size; }
  void finish() const;

 private:
  Bytes rest_;
  const char* section_;
};

enum class Section : std::uint32_t { Graph = 1, Params, Weights, Calib, Meta, TestVectors };

// Bodies of the known sections; an absent optional section has no data.
struct Sections {
  std::array<Bytes, 7> bodies;
  std::array<bool, 7> present{};

  Bytes operator[](Section s) const { return bodies[static_cast<std::size_t>(s)]; }
  bool has(Section s) const { return present[static_cast<std::size_t>(s)]; }
};

// Verifies everything outside the section bodies, and the checksum of every body.
Sections parse_sections(Bytes file);

// Zero bytes needed after `size` bytes to reach a multiple.
constexpr std::uint64_t padding(std::uint64_t size, std::uint64_t multiple) {
  return (multiple - size % multiple) % multiple;
}

// a * b for sizes; fails instead of wrapping.
std::uint64_t multiply(std::uint64_t a, std::uint64_t b, const std::string& where);

}  // namespace bitspike
