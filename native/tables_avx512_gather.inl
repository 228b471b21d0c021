// AVX-512 tables: from channel bits to the index bytes of a tile. Included by tables_avx512.cpp.

// Rows of an 8 x 8 matrix of 64-bit words to columns.
[[gnu::always_inline]] inline void transpose_words(__m512i v[8]) {
  __m512i a[8], b[8];
  unroll<4>([&](int i) {
    a[2 * i] = _mm512_unpacklo_epi64(v[2 * i], v[2 * i + 1]);
    a[2 * i + 1] = _mm512_unpackhi_epi64(v[2 * i], v[2 * i + 1]);
  });
  unroll<2>([&](int i) {
    unroll<2>([&](int j) {
      b[4 * i + j] = _mm512_shuffle_i64x2(a[4 * i + j], a[4 * i + j + 2], 0x88);
      b[4 * i + j + 2] = _mm512_shuffle_i64x2(a[4 * i + j], a[4 * i + j + 2], 0xDD);
    });
  });
  unroll<4>([&](int j) {
    v[j] = _mm512_shuffle_i64x2(b[j], b[j + 4], 0x88);
    v[j + 4] = _mm512_shuffle_i64x2(b[j], b[j + 4], 0xDD);
  });
}

// Eight groups are 56 bits. Bits of absent channels are whatever follows; their weights are 0.
void planes(const TablePlanesTask& task) {
  const TableSource& s = *task.source;
  const __m512i fields = _mm512_set1_epi64(0x312A231C150E0700);  // bits 0, 7, 14, ... 49
  const __m512i seven = _mm512_set1_epi8(0x7F);
  alignas(64) std::uint8_t order[64];  // [pixel][group] to [group][pixel]
  for (std::size_t i = 0; i < 64; ++i) order[i] = static_cast<std::uint8_t>(i % 8 * 8 + i / 8);
  const __m512i to_groups = load(order);
  alignas(64) std::uint64_t pixel_at[8];
  for (std::size_t i = 0; i < 8; ++i) pixel_at[i] = i * s.pixel_bytes;
  const __m512i pitch = load(pixel_at);
  for (std::size_t t = 0; t < s.steps; ++t) {
    const std::uint8_t* step = task.edge + t * s.pixels() * s.pixel_bytes;
    for (std::size_t p = task.first; p < task.first + task.pixels; p += 64) {
      const std::size_t count = std::min<std::size_t>(64, task.first + task.pixels - p);
      for (std::size_t group = 0; group < s.groups; group += 8) {
        const std::uint8_t* from = step + p * s.pixel_bytes + group * kGroup / 8;
        __m512i v[8];
        unroll<8>([&](int i) {
          const std::uint8_t* eight = from + static_cast<std::size_t>(8 * i) * s.pixel_bytes;
          __m512i words = _mm512_setzero_si512();
          if (static_cast<std::size_t>(8 * i) < count) {
            const auto valid = static_cast<__mmask8>(first_lanes(std::min<std::size_t>(8, count - 8 * i)));
            words = s.pixel_bytes == 8 ? _mm512_maskz_loadu_epi64(valid, eight)
                                       : _mm512_mask_i64gather_epi64(words, valid, pitch, eight, 1);
          }
          const __m512i bits = _mm512_and_si512(_mm512_multishift_epi64_epi8(fields, words), seven);
          v[i] = _mm512_permutexvar_epi8(to_groups, bits);
        });
        transpose_words(v);
        std::uint8_t* to = task.planes + s.front + group * s.plane() + t * s.pixels() + p;
        const __mmask64 valid = first_lanes(count);
        unroll<8>([&](int i) {
          if (group + i < s.groups) _mm512_mask_storeu_epi8(to + static_cast<std::size_t>(i) * s.plane(), valid, v[i]);
        });
      }
    }
  }
}

// Where the 64 rows of a vector find the top left corner of their windows.
struct Map {
  std::ptrdiff_t base;           // of the lowest corner, in a plane
  std::size_t pieces;            // of 64 source bytes, from the base
  std::size_t at[kRows];         // offsets of the pieces
  __mmask64 in_piece[kRows];     // lanes that lie in each
  std::uint8_t position[kRows];  // of a lane in its piece
  std::uint16_t y[kRows], x[kRows];  // corner, modulo 2^16: outside is large
  __mmask64 valid;
};

// Lane l holds row (l / 2) + 32 * (l % 2).
constexpr std::size_t row_of(std::size_t lane) { return lane / 2 + lane % 2 * 32; }

// The corners of the rows from `first_row` of a tile.
void make_map(const TableLayer& layer, std::size_t first, std::size_t pixels, std::size_t first_row, std::size_t rows,
              Map& map) {
  std::ptrdiff_t corner[kRows];
  std::uint16_t ys[kRows], xs[kRows];
  const std::size_t used = std::min(kRows, rows - first_row);
  find_corners(layer, first, pixels, first_row, used, corner, ys, xs);
  for (std::size_t row = used; row < kRows; ++row) {
    ys[row] = xs[row] = 0xFFFF;
    corner[row] = corner[0];
  }
  map.base = *std::min_element(corner, corner + used);
  const auto span = static_cast<std::size_t>(*std::max_element(corner, corner + used) - map.base) + 1;
  map.valid = 0;
  for (std::size_t lane = 0; lane < kRows; ++lane) {
    const std::size_t row = row_of(lane);
    map.position[lane] = static_cast<std::uint8_t>(static_cast<std::size_t>(corner[row] - map.base) % kRows);
    map.y[lane] = ys[row];
    map.x[lane] = xs[row];
    map.valid |= static_cast<__mmask64>(row < used) << lane;
  }
  map.pieces = 1;
  map.at[0] = 0;
  map.in_piece[0] = map.valid;
  if (span <= kRows) return;
  map.pieces = 0;
  for (std::size_t lane = 0; lane < kRows; ++lane) {
    const std::size_t row = row_of(lane);
    if (row >= used) continue;
    const std::size_t at = static_cast<std::size_t>(corner[row] - map.base) / kRows * kRows;
    std::size_t piece = 0;
    while (piece < map.pieces && map.at[piece] != at) ++piece;
    if (piece == map.pieces) {
      map.at[piece] = at;
      map.in_piece[piece] = 0;
      ++map.pieces;
    }
    map.in_piece[piece] |= __mmask64{1} << lane;
  }
}

// Lanes whose coordinate plus `by` is below `size`.
inline __mmask64 inside(const std::uint16_t* coordinate, std::size_t by, std::size_t size) {
  const __m512i step = _mm512_set1_epi16(static_cast<short>(by)), end = _mm512_set1_epi16(static_cast<short>(size));
  const __mmask32 low = _mm512_cmplt_epu16_mask(_mm512_add_epi16(load(coordinate), step), end);
  const __mmask32 high = _mm512_cmplt_epu16_mask(_mm512_add_epi16(load(coordinate + 32), step), end);
  return _mm512_kunpackd(high, low);
}

// One vector of rows at all taps.
void gather_vector(const TableLayer& layer, const std::uint8_t* planes, const Map& map, std::ptrdiff_t base,
                   std::uint8_t* out, std::size_t pitch) {
  const TableSource& s = layer.source;
  const std::size_t plane = s.plane();
  const __m512i position = load(map.position);
  for (std::size_t dy = 0; dy < layer.kernel_height; ++dy) {
    const __mmask64 rows = map.valid & inside(map.y, dy, s.height);
    for (std::size_t dx = 0; dx < layer.kernel_width; ++dx) {
      const __mmask64 seen = rows & inside(map.x, dx, s.width);
      const std::uint8_t* from = planes + s.front + (base + static_cast<std::ptrdiff_t>(dy * s.width + dx));
      if (map.pieces == 1) {
        for (std::size_t group = 0; group < s.groups; ++group, from += plane, out += pitch) {
          store(out, _mm512_maskz_permutexvar_epi8(seen, position, load(from)));
        }
        continue;
      }
      for (std::size_t group = 0; group < s.groups; ++group, from += plane, out += pitch) {
        __m512i v = _mm512_setzero_si512();
        for (std::size_t piece = 0; piece < map.pieces; ++piece) {
          const __mmask64 lanes = seen & map.in_piece[piece];
          v = _mm512_mask_permutexvar_epi8(v, lanes, position, load(from + map.at[piece]));
        }
        store(out, v);
      }
    }
  }
}

void gather(const TableGatherTask& task) {
  const TableLayer& layer = *task.layer;
  const std::size_t rows = layer.source.steps * task.pixels, vectors = (rows + kRows - 1) / kRows;
  // Where steps begin at a vector, all steps share their maps.
  const bool aligned = task.pixels % kRows == 0;
  const std::size_t distinct = aligned ? task.pixels / kRows : vectors;
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
