// Small steps that every table level compiles for itself: included inside an unnamed namespace.

template <class Word>
inline void put(std::uint8_t* out, std::uint64_t bits) {
  const auto word = static_cast<Word>(bits);
  std::memcpy(out, &word, sizeof word);
}

// The lowest `bytes` bytes (1 to 8) and no more: those beside them may belong to another thread.
inline void put_bytes(std::uint8_t* out, std::uint64_t bits, std::size_t bytes) {
  if (bytes == 8) {
    put<std::uint64_t>(out, bits);
  } else if (bytes >= 4) {
    put<std::uint32_t>(out, bits);
    put<std::uint32_t>(out + bytes - 4, bits >> (8 * (bytes - 4)));
  } else if (bytes >= 2) {
    put<std::uint16_t>(out, bits);
    put<std::uint16_t>(out + bytes - 2, bits >> (8 * (bytes - 2)));
  } else {
    put<std::uint8_t>(out, bits);
  }
}

// All sums of `count` weights, bit i of the index standing for weight i, lifted by `base`.
inline void fill_table(const std::int8_t* weights, std::size_t count, int base, std::uint8_t* table) {
  table[0] = static_cast<std::uint8_t>(base);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t half = std::size_t{1} << i;
    for (std::size_t index = 0; index < half; ++index) {
      table[half + index] = static_cast<std::uint8_t>(table[index] + weights[i]);
    }
  }
}

// The top left corners of the windows of `used` rows from `first_row` on: offsets in a plane, and coordinates modulo
// 2^16, so that what lies outside is large.
inline void find_corners(const TableLayer& layer, std::size_t first, std::size_t pixels, std::size_t first_row,
                         std::size_t used, std::ptrdiff_t* corner, std::uint16_t* ys, std::uint16_t* xs) {
  const TableSource& s = layer.source;
  const auto padding = static_cast<std::ptrdiff_t>(layer.padding), stride = static_cast<std::ptrdiff_t>(layer.stride);
  for (std::size_t row = 0; row < used;) {
    // A stretch of one line of one step.
    const std::size_t t = (first_row + row) / pixels, p = (first_row + row) % pixels;
    const std::size_t oy = (first + p) / layer.out_width, ox = (first + p) % layer.out_width;
    const std::size_t length = std::min({used - row, pixels - p, layer.out_width - ox});
    const std::ptrdiff_t y = static_cast<std::ptrdiff_t>(oy) * stride - padding;
    std::ptrdiff_t x = static_cast<std::ptrdiff_t>(ox) * stride - padding;
    const std::ptrdiff_t line = static_cast<std::ptrdiff_t>(t * s.pixels()) + y * static_cast<std::ptrdiff_t>(s.width);
    for (const std::size_t end = row + length; row < end; ++row, x += stride) {
      ys[row] = static_cast<std::uint16_t>(y);
      xs[row] = static_cast<std::uint16_t>(x);
      corner[row] = line + x;
    }
  }
}

// 8 rows of 8 channels, from [channel][row] to [row][channel].
inline void transpose(__m128i v[8]) {
  __m128i a[8], b[8];
  for (int i = 0; i < 4; ++i) {
    a[i] = _mm_unpacklo_epi16(v[2 * i], v[2 * i + 1]);
    a[i + 4] = _mm_unpackhi_epi16(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    for (int half = 0; half < 8; half += 4) {
      b[half + i] = _mm_unpacklo_epi32(a[half + 2 * i], a[half + 2 * i + 1]);
      b[half + i + 2] = _mm_unpackhi_epi32(a[half + 2 * i], a[half + 2 * i + 1]);
    }
  }
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = _mm_unpacklo_epi64(b[2 * i], b[2 * i + 1]);
    v[2 * i + 1] = _mm_unpackhi_epi64(b[2 * i], b[2 * i + 1]);
  }
}

void widen(const TableWidenTask& task) {
  const std::size_t rows = task.steps * task.pixels;
  for (std::size_t first = 0; first < rows; first += 8) {
    const std::size_t used = std::min<std::size_t>(8, rows - first);
    for (std::size_t c = 0; c < kTableLifChannels; c += 8) {
      __m128i v[8];
      for (std::size_t i = 0; i < 8; ++i) {
        v[i] = _mm_setzero_si128();
        if (c + i >= task.channels) continue;
        v[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(task.currents + (c + i) * task.row_stride + first));
      }
      transpose(v);
      for (std::size_t i = 0; i < used; ++i) {
        const std::size_t t = (first + i) / task.pixels, p = (first + i) % task.pixels;
        std::int32_t* out = task.out + p * task.pixel_stride + t * task.step_stride + c;
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm256_cvtepi16_epi32(v[i]));
      }
    }
  }
}
