// The byte level of a .bspk file: a cursor that cannot leave its section, CRC-32C, header and section table.
// The layout is specified in docs/format.md.
#pragma once

#include <array>
#include <cstdarg>
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

// Messages are made of texts and integers. What each part is stands in two bits of a constant, the parts are C variadic
// arguments: so the many places that may fail are little code.
enum class Part : std::uint64_t { None, Text, Unsigned, Signed };

template <class T>
constexpr Part part_of() {
  if constexpr (!std::is_integral_v<T>) return Part::Text;
  return std::is_signed_v<T> ? Part::Signed : Part::Unsigned;
}
template <class... T>
constexpr std::uint64_t parts_of() {
  static_assert(sizeof...(T) < 32, "a message has at most 31 parts");
  std::uint64_t parts = 0;
  unsigned place = 0;
  ((parts |= static_cast<std::uint64_t>(part_of<T>()) << place, place += 2), ...);
  return parts;
}

inline const char* part(const char* text) { return text; }
inline const char* part(const std::string& text) { return text.c_str(); }
template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
std::uint64_t part(T number) {
  return static_cast<std::uint64_t>(number);
}

void append_parts(std::string& text, std::uint64_t parts, std::va_list arguments);
void append_with(std::string& text, std::uint64_t parts, ...);
[[noreturn]] void fail_with(std::uint64_t parts, ...);

template <class... T>
[[gnu::always_inline]] inline void append(std::string& text, const T&... parts) {
  append_with(text, parts_of<std::decay_t<T>...>(), part(parts)...);
}
template <class... T>
[[noreturn, gnu::always_inline]] inline void fail(const T&... parts) {
  fail_with(parts_of<std::decay_t<T>...>(), part(parts)...);
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
std::uint64_t multiply(std::uint64_t a, std::uint64_t b, const char* where);

}  // namespace bitspike
