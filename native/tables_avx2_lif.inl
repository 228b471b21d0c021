// AVX2 tables: from currents to channel bits. Included by tables_avx2.cpp.

// 32 pixels of one channel; `Plain`: nothing is multiplied, shifted or clipped.
template <bool Plain>
void lif_rows(const TableLifTask& task) {
  const TableLif& lif = *task.lif;
  const std::size_t blocks = (task.pixels + 31) / 32;
  const bool leaks = lif.leak_shift != 0, scales = !lif.multiplier.empty(), soft = lif.soft_reset;
  const __m128i leak = _mm_cvtsi32_si128(lif.leak_shift);
  const __m256i limit = _mm256_set1_epi16(lif.limit), lowest = _mm256_set1_epi16(static_cast<short>(-lif.limit));
  for (std::size_t c = 0; c < task.channels; ++c) {
    const std::size_t channel = task.first_channel + c;
    const int bits = lif.shift.empty() ? 0 : lif.shift[channel];
    const __m256i threshold = _mm256_set1_epi16(lif.threshold[channel]);
    const __m256i multiplier = _mm256_set1_epi16(scales ? lif.multiplier[channel] : std::int16_t{1});
    const __m256i bias = _mm256_set1_epi16(scales ? lif.bias[channel] : std::int16_t{0});
    const __m128i shift = _mm_cvtsi32_si128(bits), round_shift = _mm_cvtsi32_si128(bits > 0 ? bits - 1 : 0);
    const __m256i round_bit = _mm256_set1_epi16(bits > 0 ? 1 : 0);
    for (std::size_t block = 0; block < blocks; ++block) {
      const std::int16_t* x = task.currents + c * task.row_stride + block * 32;
      std::uint32_t* out = task.masks + c * task.steps * blocks + block;
      __m256i carry[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
      for (std::size_t t = 0; t < task.steps; ++t, x += task.pixels, out += blocks) {
        __m256i silent[2];
        unroll<2>([&](int i) {
          __m256i u = load(x + 16 * i);
          if constexpr (!Plain) {
            if (scales) u = _mm256_add_epi16(_mm256_mullo_epi16(u, multiplier), bias);
          }
          if (leaks) carry[i] = _mm256_sub_epi16(carry[i], _mm256_sra_epi16(carry[i], leak));
          u = _mm256_add_epi16(u, carry[i]);
          silent[i] = _mm256_cmpgt_epi16(threshold, u);
          carry[i] = soft ? _mm256_sub_epi16(u, _mm256_andnot_si256(silent[i], threshold))
                          : _mm256_and_si256(u, silent[i]);
          if constexpr (!Plain) {
            // carry + half might leave 16 bits, so rounding adds the last bit that is shifted out instead.
            const __m256i round = _mm256_and_si256(_mm256_sra_epi16(carry[i], round_shift), round_bit);
            carry[i] = _mm256_add_epi16(_mm256_sra_epi16(carry[i], shift), round);
            carry[i] = _mm256_max_epi16(_mm256_min_epi16(carry[i], limit), lowest);
            carry[i] = _mm256_sll_epi16(carry[i], shift);
          }
        });
        const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(silent[0], silent[1]), 0xD8);
        *out = ~static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
      }
    }
  }
}

void lif(const TableLifTask& task) {
  const bool plain = task.lif->multiplier.empty() && task.lif->shift.empty() && !task.lif->clips;
  plain ? lif_rows<true>(task) : lif_rows<false>(task);
}

// 32 pixels of 8 channels as bytes.
inline __m256i bytes_of(const std::uint32_t* masks, std::size_t stride, std::size_t channels) {
  const __m256i spread = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1,  //
                                          2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
  const __m256i select = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201u));
  __m256i bytes = _mm256_setzero_si256(), bit = _mm256_set1_epi8(1);
  for (std::size_t c = 0; c < channels; ++c) {
    const __m256i mask = _mm256_shuffle_epi8(_mm256_set1_epi32(static_cast<int>(masks[c * stride])), spread);
    const __m256i spikes = _mm256_cmpeq_epi8(_mm256_and_si256(mask, select), select);
    bytes = _mm256_or_si256(bytes, _mm256_and_si256(spikes, bit));
    bit = _mm256_add_epi8(bit, bit);
  }
  return bytes;
}

void pack(const TablePackTask& task) {
  const std::size_t blocks = (task.pixels + 31) / 32, stride = task.steps * blocks, bytes = (task.channels + 7) / 8;
  for (std::size_t t = 0; t < task.steps; ++t) {
    for (std::size_t block = 0; block < blocks; ++block) {
      const std::uint32_t* masks = task.masks + t * blocks + block;
      __m256i v[8], a[8], b[8];
      for (std::size_t i = 0; i < 8; ++i) {
        const std::size_t channels = task.channels > 8 * i ? std::min<std::size_t>(8, task.channels - 8 * i) : 0;
        v[i] = bytes_of(masks + 8 * i * stride, stride, channels);
      }
      // 64 channels of a pixel side by side: pixels 2i, 2i + 1 and 16 + 2i, 17 + 2i in the i-th.
      for (int i = 0; i < 4; ++i) {
        a[i] = _mm256_unpacklo_epi8(v[2 * i], v[2 * i + 1]);
        a[i + 4] = _mm256_unpackhi_epi8(v[2 * i], v[2 * i + 1]);
      }
      for (int half = 0; half < 8; half += 4) {
        for (int i = 0; i < 2; ++i) {
          b[half + i] = _mm256_unpacklo_epi16(a[half + 2 * i], a[half + 2 * i + 1]);
          b[half + 2 + i] = _mm256_unpackhi_epi16(a[half + 2 * i], a[half + 2 * i + 1]);
        }
      }
      alignas(32) std::uint64_t pixel[8][4];
      for (int i = 0; i < 4; ++i) {
        store(pixel[2 * i], _mm256_unpacklo_epi32(b[2 * i], b[2 * i + 1]));
        store(pixel[2 * i + 1], _mm256_unpackhi_epi32(b[2 * i], b[2 * i + 1]));
      }
      const std::size_t count = std::min<std::size_t>(32, task.pixels - block * 32);
      std::uint8_t* out = task.out + t * task.step_stride + block * 32 * task.pixel_stride;
      for (std::size_t p = 0; p < count; ++p, out += task.pixel_stride) {
        put_bytes(out, pixel[p % 16 / 2][p / 16 * 2 + p % 2], bytes);
      }
    }
  }
}
