// AVX2 tables: from channel bits to the index bytes of a tile. Included by tables_avx2.cpp.

// 8 pixels of 8 bytes to 8 bytes of 8 pixels, two of them per result.
inline void transpose_bytes(const std::uint64_t pixel[8], __m128i out[4]) {
  __m128i a[4], b[4];
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm_unpacklo_epi8(_mm_cvtsi64_si128(static_cast<long long>(pixel[2 * i])),
                             _mm_cvtsi64_si128(static_cast<long long>(pixel[2 * i + 1])));
  }
  for (int i = 0; i < 2; ++i) {
    b[2 * i] = _mm_unpacklo_epi16(a[2 * i], a[2 * i + 1]);
    b[2 * i + 1] = _mm_unpackhi_epi16(a[2 * i], a[2 * i + 1]);
  }
  out[0] = _mm_unpacklo_epi32(b[0], b[2]);
  out[1] = _mm_unpackhi_epi32(b[0], b[2]);
  out[2] = _mm_unpacklo_epi32(b[1], b[3]);
  out[3] = _mm_unpackhi_epi32(b[1], b[3]);
}

// Two groups per byte. Bits of absent channels are whatever follows; their weights are 0.
void planes(const TablePlanesTask& task) {
  const TableSource& s = *task.source;
  const __m128i nibble = _mm_set1_epi8(15);
  for (std::size_t t = 0; t < s.steps; ++t) {
    const std::uint8_t* step = task.edge + t * s.pixels() * s.pixel_bytes;
    for (std::size_t p = task.first; p < task.first + task.pixels; p += 8) {
      const std::size_t count = std::min<std::size_t>(8, task.first + task.pixels - p);
      for (std::size_t byte = 0; byte < s.pixel_bytes; byte += 8) {
        std::uint64_t pixel[8] = {};
        for (std::size_t i = 0; i < count; ++i) std::memcpy(pixel + i, step + (p + i) * s.pixel_bytes + byte, 8);
        __m128i pairs[4];
        transpose_bytes(pixel, pairs);
        for (std::size_t i = 0; i < 8; ++i) {
          for (std::size_t half = 0; half < 2; ++half) {
            const std::size_t group = 2 * (byte + i) + half;
            if (group >= s.groups) break;
            __m128i v = half == 0 ? pairs[i / 2] : _mm_srli_epi16(pairs[i / 2], 4);
            v = _mm_and_si128(v, nibble);
            if (i % 2 != 0) v = _mm_unpackhi_epi64(v, v);
            const auto bits = static_cast<std::uint64_t>(_mm_cvtsi128_si64(v));
            std::uint8_t* to = task.planes + s.front + group * s.plane() + t * s.pixels() + p;
            count == 8 ? put<std::uint64_t>(to, bits) : put_bytes(to, bits, count);
          }
        }
      }
    }
  }
}

// Where the 32 rows of a vector find the top left corner of their windows.
struct Map {
  std::ptrdiff_t base;  // of the lowest corner, in a plane
  std::size_t pieces;   // of 16 source bytes, from the base
  std::size_t at[kRows];
  std::uint8_t position[kRows][kRows];  // per piece: of a lane in it, 0x80 where it lies in another
  std::uint16_t y[kRows], x[kRows];     // per lane
};

// Lane l holds row (l / 2) + 16 * (l % 2).
constexpr std::size_t row_of(std::size_t lane) { return lane / 2 + lane % 2 * 16; }

void make_map(const TableLayer& layer, std::size_t first, std::size_t pixels, std::size_t first_row, std::size_t rows,
              Map& map) {
  std::ptrdiff_t corner[kRows];
  std::uint16_t ys[kRows], xs[kRows];
  const std::size_t used = std::min(kRows, rows - first_row);
  find_corners(layer, first, pixels, first_row, used, corner, ys, xs);
  map.base = *std::min_element(corner, corner + used);
  map.pieces = 0;
  for (std::size_t lane = 0; lane < kRows; ++lane) {
    const std::size_t row = row_of(lane);
    map.y[lane] = map.x[lane] = 0xFFFF;
    if (row >= used) continue;
    map.y[lane] = ys[row];
    map.x[lane] = xs[row];
    const auto offset = static_cast<std::size_t>(corner[row] - map.base);
    std::size_t piece = 0;
    while (piece < map.pieces && map.at[piece] != offset / 16 * 16) ++piece;
    if (piece == map.pieces) {
      map.at[piece] = offset / 16 * 16;
      std::memset(map.position[piece], 0x80, kRows);
      ++map.pieces;
    }
    map.position[piece][lane] = static_cast<std::uint8_t>(offset % 16);
  }
}

// Lanes, as bytes of ones, whose coordinate plus `by` is below `size`.
inline __m256i inside(const std::uint16_t* coordinate, std::size_t by, std::size_t size) {
  const __m256i step = _mm256_set1_epi16(static_cast<short>(by));
  const __m256i last = _mm256_set1_epi16(static_cast<short>(size - 1));
  const auto test = [&](const std::uint16_t* p) {
    return _mm256_cmpeq_epi16(_mm256_subs_epu16(_mm256_add_epi16(load(p), step), last), _mm256_setzero_si256());
  };
  return _mm256_permute4x64_epi64(_mm256_packs_epi16(test(coordinate), test(coordinate + 16)), 0xD8);
}

// One vector of rows at all taps.
void gather_vector(const TableLayer& layer, const std::uint8_t* planes, const Map& map, std::ptrdiff_t base,
                   std::uint8_t* out, std::size_t pitch) {
  const TableSource& s = layer.source;
  const std::size_t plane = s.plane();
  for (std::size_t dy = 0; dy < layer.kernel_height; ++dy) {
    const __m256i rows = inside(map.y, dy, s.height);
    for (std::size_t dx = 0; dx < layer.kernel_width; ++dx) {
      const __m256i seen = _mm256_and_si256(rows, inside(map.x, dx, s.width));
      const std::uint8_t* from = planes + s.front + (base + static_cast<std::ptrdiff_t>(dy * s.width + dx));
      if (map.pieces <= 2) {  // rows that are neighbours in the source
        const std::size_t near = map.at[0], far = map.at[map.pieces - 1];
        const __m256i a = load(map.position[0]), b = load(map.position[map.pieces - 1]);
        for (std::size_t group = 0; group < s.groups; ++group, from += plane, out += pitch) {
          const __m256i v = _mm256_or_si256(_mm256_shuffle_epi8(load_twice(from + near), a),
                                            _mm256_shuffle_epi8(load_twice(from + far), b));
          store(out, _mm256_and_si256(v, seen));
        }
        continue;
      }
      for (std::size_t group = 0; group < s.groups; ++group, from += plane, out += pitch) {
        __m256i v = _mm256_shuffle_epi8(load_twice(from + map.at[0]), load(map.position[0]));
        for (std::size_t piece = 1; piece < map.pieces; ++piece) {
          v = _mm256_or_si256(v, _mm256_shuffle_epi8(load_twice(from + map.at[piece]), load(map.position[piece])));
        }
        store(out, _mm256_and_si256(v, seen));
      }
    }
  }
}

void gather(const TableGatherTask& task) {
  const TableLayer& layer = *task.layer;
  const std::size_t rows = layer.source.steps * task.pixels, vectors = (rows + kRows - 1) / kRows;
  // Where steps begin at a vector, all steps share their maps.
  const std::size_t distinct = task.pixels % kRows == 0 ? task.pixels / kRows : vectors;
  Map& map = *reinterpret_cast<Map*>(task.maps);
  for (std::size_t v = 0; v < distinct; ++v) {
    make_map(layer, task.first, task.pixels, v * kRows, rows, map);
    std::ptrdiff_t base = map.base;
    for (std::size_t vector = v; vector < vectors; vector += distinct) {
      const std::size_t chunk = vector / kTableChunk * kTableChunk;
      const std::size_t pitch = std::min(kTableChunk, vectors - chunk) * kRows;
      std::uint8_t* out = task.indices + chunk * kRows * layer.lookups + (vector - chunk) * kRows;
      gather_vector(layer, task.planes, map, base, out, pitch);
      base += static_cast<std::ptrdiff_t>(layer.source.pixels());
    }
  }
}
