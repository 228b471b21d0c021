"""Fixed C functions that the emitted code calls; only those that a network needs are written."""

from __future__ import annotations

__all__ = ["CRC_TABLE_BYTES", "EPILOGUE", "HELPERS", "PROLOGUE", "needed"]

PROLOGUE = """\
/* Compilers turn loops that clear or copy into calls of memset and memcpy; this file calls nothing. */
#if defined(__clang__)
#pragma clang attribute push(__attribute__((no_builtin("memset", "memcpy", "memmove"))), apply_to = function)
#elif defined(__GNUC__)
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#endif

/* One large function would run out of registers in its inner loops. */
#if defined(__GNUC__)
#define SEPARATE __attribute__((noinline))
#else
#define SEPARATE
#endif
"""

EPILOGUE = """
#if defined(__clang__)
#pragma clang attribute pop
#endif
"""

_INTEGERS = """\
/* The signed value of 32 bits, without the implementation-defined conversion. */
static int32_t signed32(uint32_t v)
{
    return v <= 0x7fffffffu ? (int32_t)v : -(int32_t)(0xffffffffu - v) - 1;
}
"""

_SHIFT = """\
/* Floor of v / 2^k. C99 leaves >> of negative numbers to the compiler: it is used where it is that floor. */
static int32_t shift_right(int32_t v, uint32_t k)
{
#if (-1 >> 1) == -1 && (-5 >> 1) == -3
    typedef char shift_keeps_the_sign[(-5 >> 1) == -3 ? 1 : -1];
    (void)sizeof(shift_keeps_the_sign);
    return v >> k;
#else
    return v >= 0 ? v >> k : -1 - ((-1 - v) >> k);
#endif
}
"""

_VALUES = """\
/* Value c of a stream's pixel, stored lowest byte first. */
#define value16(pixel, c) ((int32_t)(((uint32_t)(pixel)[2 * (c)] | (uint32_t)(pixel)[2 * (c) + 1] << 8) ^ 0x8000u) - 0x8000)
#define value32(pixel, c) signed32((uint32_t)(pixel)[4 * (c)] | (uint32_t)(pixel)[4 * (c) + 1] << 8 | \\
    (uint32_t)(pixel)[4 * (c) + 2] << 16 | (uint32_t)(pixel)[4 * (c) + 3] << 24)
"""

_PUT_VALUE = """\
static void put_value(uint8_t *pixel, uint32_t bytes, int32_t value)
{
    uint32_t i;
    for (i = 0; i < bytes; i++) pixel[i] = (uint8_t)((uint32_t)value >> 8 * i & 0xffu);
}
"""

_HIGHEST = """\
/* Position of the highest set bit of v, v not 0. */
#if defined(__GNUC__) && (defined(__ARM_FEATURE_CLZ) || defined(__x86_64__) || defined(__i386__) || \\
    defined(__aarch64__) || defined(__wasm__) || defined(__riscv_zbb))
#define highest_bit(v) (31u - (uint32_t)__builtin_clz(v))
#else
static uint32_t highest_bit(uint32_t v)
{
    uint32_t n = 0;
    if (v >> 16) { n += 16; v >>= 16; }
    if (v >> 8) { n += 8; v >>= 8; }
    if (v >> 4) { n += 4; v >>= 4; }
    if (v >> 2) { n += 2; v >>= 2; }
    return n + (v >> 1);
}
#endif
"""

_LOAD32 = """\
static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}
"""

_CLEAR = """\
static void clear(uint32_t *words, uint32_t n)
{
    uint32_t i;
    for (i = 0; i < n; i++) words[i] = 0;
}
"""

_SCAN = """\
/* Append base + channel for every set bit of the channel bits at p; returns the new length of the list. */
static SEPARATE uint32_t scan(const uint8_t *p, uint32_t bytes, uint32_t base, uint32_t n)
{
    entry *to = list + n;
    uint32_t v, bit;
    for (; bytes >= 4; bytes -= 4, p += 4, base += 32)
        for (v = load32(p); v; v &= ~((uint32_t)1 << bit)) *to++ = (entry)(base + (bit = highest_bit(v)));
    for (; bytes; bytes--, p++, base += 8)
        for (v = *p; v; v &= ~((uint32_t)1 << bit)) *to++ = (entry)(base + (bit = highest_bit(v)));
    return (uint32_t)(to - list);
}
"""

_SCAN_RANGE = """\
/* As scan, for channels first .. first + channels - 1, which are numbered from base. */
static SEPARATE uint32_t scan_range(const uint8_t *p, uint32_t first, uint32_t channels, uint32_t base, uint32_t n)
{
    uint32_t c;
    for (c = 0; c < channels; c++) {
        list[n] = (entry)(base + c);
        n += (uint32_t)p[(first + c) >> 3] >> ((first + c) & 7) & 1u;
    }
    return n;
}
"""

_SCAN_COUNTS = """\
/* As scan, for channels whose count at p has this bit set. */
static SEPARATE uint32_t scan_counts(const uint8_t *p, uint32_t channels, uint32_t bit, uint32_t base, uint32_t n)
{
    uint32_t c;
    for (c = 0; c < channels; c++) {
        list[n] = (entry)(base + c);
        n += (uint32_t)p[c] >> bit & 1u;
    }
    return n;
}
"""

_COUNT = """\
/* Add the listed rows, one bit per channel, to counters that are stored across words: bit i of counter c is bit c of
   plane[i]. Carry-save adders take eight rows at a time, so a row costs about five operations for @LANES@ channels. The
   list is filled up with rows of zeros. */
#define ADD(s, c, x, y) (t = (s) ^ (x), c = ((s) & (x)) | (t & (y)), s = t ^ (y))
static SEPARATE void count@LANES@(const @TYPE@ *row, uint32_t n, uint32_t zero_row, uint32_t *plane)
{
    uint32_t ones = plane[0], twos = plane[1], fours = plane[2], t, a, b, c, d, i;
    while (n & 7u) list[n++] = (entry)zero_row;
    for (i = 0; i < n; i += 8) {
        const entry *e = list + i;
        ADD(ones, a, (uint32_t)row[e[0]], (uint32_t)row[e[1]]);
        ADD(ones, b, (uint32_t)row[e[2]], (uint32_t)row[e[3]]);
        ADD(twos, c, a, b);
        ADD(ones, a, (uint32_t)row[e[4]], (uint32_t)row[e[5]]);
        ADD(ones, b, (uint32_t)row[e[6]], (uint32_t)row[e[7]]);
        ADD(twos, d, a, b);
        ADD(fours, a, c, d);
        {
            uint32_t *p = plane + 3;
            for (; a; p++) {
                t = *p & a;
                *p ^= a;
                a = t;
            }
        }
    }
    plane[0] = ones;
    plane[1] = twos;
    plane[2] = fours;
}
#undef ADD
"""

_OVERLAP = """\
/* How many of the channels first .. first + channels - 1 are set in both a and b. */
static SEPARATE uint32_t overlap(const uint8_t *a, const uint8_t *b, uint32_t first, uint32_t channels)
{
    uint32_t i, v, n = 0;
    const uint32_t end = first + channels;
    for (i = first >> 3; 8 * i < end; i++) {
        v = (uint32_t)a[i] & b[i];
        if (8 * i < first) v &= 0xffu << (first & 7);
        if (8 * i + 8 > end) v &= 0xffu >> (8 - (end & 7));
        v -= v >> 1 & 0x55u;
        v = (v & 0x33u) + (v >> 2 & 0x33u);
        n += (v + (v >> 4)) & 0xfu;
    }
    return n;
}
"""

_ADD_ROWS8 = """\
/* current[i] += the sum of v[j] * row[j][i]; unused rows have v = 0. */
static SEPARATE void add_rows8_@BITS@(const int8_t *const *row, const int32_t *v, uint32_t n, @TYPE@ *current)
{
    const int8_t *a = row[0], *b = row[1], *c = row[2], *const end = a + n;
    const int32_t x = v[0], y = v[1], z = v[2];
    for (; a < end; current++) *current = (@TYPE@)(*current + x * *a++ + y * *b++ + z * *c++);
}
"""

_ADD_ROW = """\
/* current[i] += v * weight, n weights from number first of a stream on; weights are odd numbers, or all from
   -2^(bits - 1) + 1 on */
static SEPARATE void add_row_@BITS@(const uint8_t *stream, uint32_t bits, uint32_t odd, uint32_t first, int32_t v,
                                    uint32_t n, @TYPE@ *current)
{
    const uint32_t scale = (uint32_t)v << odd, offset = (uint32_t)v * ((1u << (bits - 1 + odd)) - 1);
    uint32_t i, at = first * bits;
    for (i = 0; i < n; i++, at += bits) {
        const uint32_t two = (uint32_t)stream[at >> 3] | (uint32_t)stream[(at >> 3) + 1] << 8;
        const uint32_t product = scale * (two >> (at & 7) & ((1u << bits) - 1)) - offset;
        current[i] = (@TYPE@)signed32((uint32_t)current[i] + product);
    }
}
"""

_CLIP = """\
static int32_t clip(int32_t v, int32_t limit)
{
    return v > limit ? limit : v < -limit ? -limit : v;
}
"""

_AT_MOST = """\
static int32_t at_most(int32_t v, int32_t limit)
{
    return v > limit ? limit : v;
}
"""

_AT_LEAST = """\
static int32_t at_least(int32_t v, int32_t limit)
{
    return v < limit ? limit : v;
}
"""

_CRC = """\
static const uint32_t crc_nibble[16] = {
    0x00000000u, 0x105ec76fu, 0x20bd8edeu, 0x30e349b1u, 0x417b1dbcu, 0x5125dad3u, 0x61c69362u, 0x7198540du,
    0x82f63b78u, 0x92a8fc17u, 0xa24bb5a6u, 0xb21572c9u, 0xc38d26c4u, 0xd3d3e1abu, 0xe330a81au, 0xf36e6f75u,
};

/* CRC-32C of n more bytes; begins with 0. */
static uint32_t crc32c(uint32_t crc, const uint8_t *bytes, uint32_t n)
{
    crc = ~crc;
    while (n--) {
        crc ^= *bytes++;
        crc = crc >> 4 ^ crc_nibble[crc & 15u];
        crc = crc >> 4 ^ crc_nibble[crc & 15u];
    }
    return ~crc;
}
"""


def _typed(text: str, bits: int) -> str:
    return text.replace("@BITS@", str(bits)).replace("@TYPE@", f"int{bits}_t")


def _counting(lanes: int) -> str:
    return _COUNT.replace("@LANES@", str(lanes)).replace("@TYPE@", f"uint{lanes}_t")


HELPERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "clear": (_CLEAR, ()),
    "signed32": (_INTEGERS, ()),
    "values": (_VALUES, ("signed32",)),
    "put_value": (_PUT_VALUE, ()),
    "shift_right": (_SHIFT, ()),
    "clip": (_CLIP, ()),
    "at_most": (_AT_MOST, ()),
    "at_least": (_AT_LEAST, ()),
    "highest_bit": (_HIGHEST, ()),
    "load32": (_LOAD32, ()),
    "scan": (_SCAN, ("load32", "highest_bit")),
    "scan_range": (_SCAN_RANGE, ()),
    "scan_counts": (_SCAN_COUNTS, ()),
    "count8": (_counting(8), ()),
    "count16": (_counting(16), ()),
    "count32": (_counting(32), ()),
    "overlap": (_OVERLAP, ()),
    "add_rows8_16": (_typed(_ADD_ROWS8, 16), ()),
    "add_rows8_32": (_typed(_ADD_ROWS8, 32), ()),
    "add_row_16": (_typed(_ADD_ROW, 16), ("signed32",)),
    "add_row_32": (_typed(_ADD_ROW, 32), ("signed32",)),
    "crc32c": (_CRC, ()),
}
"""C function -> (its text, the functions it calls), callees first."""

CRC_TABLE_BYTES = 64


def needed(names: set[str]) -> str:
    """The text of ``names`` and of everything they call, in order of definition."""
    wanted = set(names)
    for name in reversed(list(HELPERS)):
        if name in wanted:
            wanted.update(HELPERS[name][1])
    return "\n".join(text for name, (text, _) in HELPERS.items() if name in wanted)
