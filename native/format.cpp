#include "format.hpp"

#include <cstring>

namespace bitspike {
namespace {

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0x82F63B78u : 0u);
    table[byte] = value;
  }
  return table;
}

constexpr auto kCrcTable = make_crc_table();
constexpr std::uint64_t kHeaderSize = 24;
constexpr std::uint64_t kEntrySize = 32;
constexpr std::uint32_t kMajor = 1;
constexpr const char* kNames[] = {"", "GRAPH", "PARAMS", "WEIGHTS", "CALIB", "META", "TESTVEC"};
constexpr std::uint32_t kLastRequired = 3;
constexpr std::uint32_t kLastKnown = 6;

// CRC of header and table, with the header's own checksum field taken as zero.
std::uint32_t table_crc(Bytes file, std::uint32_t sections) {
  const std::uint8_t zero[4] = {};
  std::uint32_t crc = crc32c({file.data, 20});
  crc = crc32c({zero, 4}, crc);
  return crc32c({file.data + kHeaderSize, sections * kEntrySize}, crc);
}

}  // namespace

void append_parts(std::string& text, std::uint64_t parts, std::va_list arguments) {
  for (; parts != 0; parts >>= 2) {
    const auto part = static_cast<Part>(parts & 3);
    if (part == Part::Text) {
      text += va_arg(arguments, const char*);
      continue;
    }
    std::uint64_t number = va_arg(arguments, std::uint64_t);
    if (part == Part::Signed && number >> 63 != 0) {
      text += '-';
      number = 0 - number;
    }
    char digits[20];
    char* first = digits + sizeof digits;
    do *--first = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    text.append(first, static_cast<std::size_t>(digits + sizeof digits - first));
  }
}

void append_with(std::string& text, std::uint64_t parts, ...) {
  std::va_list arguments;
  va_start(arguments, parts);
  append_parts(text, parts, arguments);
  va_end(arguments);
}

void fail_with(std::uint64_t parts, ...) {
  std::string text;
  std::va_list arguments;
  va_start(arguments, parts);
  append_parts(text, parts, arguments);
  va_end(arguments);
  throw FormatError(text);
}

std::uint32_t crc32c(Bytes bytes, std::uint32_t previous) {
  std::uint32_t crc = ~previous;
  for (std::uint64_t i = 0; i < bytes.size; ++i) crc = (crc >> 8) ^ kCrcTable[(crc ^ bytes.data[i]) & 0xFF];
  return ~crc;
}

Bytes Cursor::take(std::uint64_t count, const char* what) {
  if (count > rest_.size) fail(section_, ": ", what, " needs ", count, " bytes, only ", rest_.size, " are left");
  const Bytes taken{rest_.data, count};
  rest_ = {rest_.data + count, rest_.size - count};
  return taken;
}

void Cursor::zeros(std::uint64_t count, const char* what) {
  const Bytes bytes = take(count, what);
  for (std::uint64_t i = 0; i < count; ++i) {
    if (bytes.data[i] != 0) fail(section_, ": ", what, " holds ", int{bytes.data[i]}, ", only zeros are accepted");
  }
}

std::uint16_t Cursor::u16(const char* what) {
  std::uint16_t value;
  std::memcpy(&value, take(sizeof value, what).data, sizeof value);
  return value;
}

std::uint32_t Cursor::u32(const char* what) {
  std::uint32_t value;
  std::memcpy(&value, take(sizeof value, what).data, sizeof value);
  return value;
}

std::uint64_t Cursor::u64(const char* what) {
  std::uint64_t value;
  std::memcpy(&value, take(sizeof value, what).data, sizeof value);
  return value;
}

void Cursor::finish() const {
  if (rest_.size != 0) fail(section_, ": ", rest_.size, " bytes are left over");
}

std::uint64_t multiply(std::uint64_t a, std::uint64_t b, const char* where) {
  if (a != 0 && b > UINT64_MAX / a) fail(where, ": ", a, " x ", b, " does not fit in 64 bits");
  return a * b;
}

Sections parse_sections(Bytes file) {
  Cursor cursor(file, "header");
  if (std::memcmp(cursor.take(4, "magic").data, "BSPK", 4) != 0) fail("header: not a .bspk file (magic is not BSPK)");
  const auto major = cursor.u16("major version");
  cursor.u16("minor version");
  if (major != kMajor) fail("header: format version ", major, " is not supported, accepted: ", kMajor);
  const auto length = cursor.u64("file length");
  if (length != file.size) fail("header: file length is ", length, ", but the file has ", file.size, " bytes");
  const auto count = cursor.u32("number of sections");
  if (count < 3 || count > 16) fail("header: number of sections is ", count, ", accepted: 3 to 16");
  const auto stored = cursor.u32("checksum");

  Cursor table(cursor.take(count * kEntrySize, "section table"), "section table");
  if (table_crc(file, count) != stored) fail("header: checksum of header and section table does not match");

  Sections sections;
  std::uint64_t expected = kHeaderSize + count * kEntrySize;
  std::uint32_t last_type = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto type = table.u32("type"), flags = table.u32("flags");
    const auto offset = table.u64("offset"), size = table.u64("length");
    const auto crc = table.u32("checksum");
    table.zeros(4, "reserved word");
    if (type <= last_type) fail("section table: type ", type, " after ", last_type, ", types must increase");
    last_type = type;
    if (flags > 1) fail("section table: flags of section ", type, " are ", flags, ", accepted: 0 or 1");
    if (offset != expected) fail("section table: section ", type, " starts at ", offset, ", expected ", expected);

    const bool known = type <= kLastKnown;
    const char* name = known ? kNames[type] : "unknown section";
    const Bytes body = cursor.take(size, name);
    cursor.zeros(padding(size, 8), "padding between sections");
    expected += size + padding(size, 8);
    if (crc32c(body) != crc) fail(name, ": checksum of section ", type, " does not match");
    if (!known && flags == 1) fail("section table: section ", type, " is required but unknown to this version");
    if (known && (flags == 1) != (type <= kLastRequired)) {
      fail("section table: ", name, " must ", type <= kLastRequired ? "" : "not ", "be marked as required");
    }
    if (known) {
      sections.bodies[type] = body;
      sections.present[type] = true;
    }
  }
  table.finish();
  cursor.finish();
  for (std::uint32_t type = 1; type <= kLastRequired; ++type) {
    if (!sections.present[type]) fail("section table: required section ", kNames[type], " is missing");
  }
  return sections;
}

}  // namespace bitspike
