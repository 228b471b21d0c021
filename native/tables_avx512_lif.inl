// AVX-512 tables: from currents to channel bits. Included by tables_avx512.cpp.

// N channels at once, so that one's additions fill the waits of the others. `Plain`: nothing is multiplied, shifted or
// clipped.
template <int N, bool Plain>
void lif_channels(const TableLifTask& task, std::size_t first) {
  const TableLif& lif = *task.lif;
  const std::size_t blocks = (task.pixels + 31) / 32, channel = task.first_channel + first;
  const bool leaks = lif.leak_shift != 0, scales = !lif.multiplier.empty(), soft = lif.soft_reset;
  const __m128i leak = _mm_cvtsi32_si128(lif.leak_shift);
  const __m512i limit = _mm512_set1_epi16(lif.limit), lowest = _mm512_set1_epi16(static_cast<short>(-lif.limit));
  __m512i threshold[N], multiplier[N], bias[N], round_bit[N];
  __m128i shift[N], round_shift[N];
  unroll<N>([&](int i) {
    const std::size_t c = channel + static_cast<std::size_t>(i);
    threshold[i] = _mm512_set1_epi16(lif.threshold[c]);
    if constexpr (!Plain) {
      multiplier[i] = _mm512_set1_epi16(scales ? lif.multiplier[c] : std::int16_t{1});
      bias[i] = _mm512_set1_epi16(scales ? lif.bias[c] : std::int16_t{0});
      const int bits = lif.shift.empty() ? 0 : lif.shift[c];
      shift[i] = _mm_cvtsi32_si128(bits);
      round_shift[i] = _mm_cvtsi32_si128(bits > 0 ? bits - 1 : 0);
      round_bit[i] = _mm512_set1_epi16(bits > 0 ? 1 : 0);
    }
  });
  for (std::size_t block = 0; block < blocks; ++block) {
    const std::int16_t* x = task.currents + first * task.row_stride + block * 32;
    std::uint32_t* out = task.masks + first * task.steps * blocks + block;
    __m512i carry[N];
    unroll<N>([&](int i) { carry[i] = _mm512_setzero_si512(); });
    for (std::size_t t = 0; t < task.steps; ++t, x += task.pixels, out += blocks) {
      unroll<N>([&](int i) {
        const auto n = static_cast<std::size_t>(i);
        __m512i u = load(x + n * task.row_stride);
        if constexpr (!Plain) {
          if (scales) u = _mm512_add_epi16(_mm512_mullo_epi16(u, multiplier[i]), bias[i]);
        }
        if (leaks) carry[i] = _mm512_sub_epi16(carry[i], _mm512_sra_epi16(carry[i], leak));
        u = _mm512_add_epi16(u, carry[i]);
        const __mmask32 silent = _mm512_cmplt_epi16_mask(u, threshold[i]);
        out[n * task.steps * blocks] = ~silent;
        carry[i] = soft ? _mm512_mask_sub_epi16(u, ~silent, u, threshold[i]) : _mm512_maskz_mov_epi16(silent, u);
        if constexpr (!Plain) {
          // carry + half might leave 16 bits, so rounding adds the last bit that is shifted out instead.
          const __m512i round = _mm512_and_si512(_mm512_sra_epi16(carry[i], round_shift[i]), round_bit[i]);
          carry[i] = _mm512_add_epi16(_mm512_sra_epi16(carry[i], shift[i]), round);
          carry[i] = _mm512_max_epi16(_mm512_min_epi16(carry[i], limit), lowest);
          carry[i] = _mm512_sll_epi16(carry[i], shift[i]);
        }
      });
    }
  }
}

template <bool Plain>
void lif_rows(const TableLifTask& task) {
  std::size_t c = 0;
  for (; c + 4 <= task.channels; c += 4) lif_channels<4, Plain>(task, c);
  for (; c < task.channels; ++c) lif_channels<1, Plain>(task, c);
}

void lif(const TableLifTask& task) {
  const bool plain = task.lif->multiplier.empty() && task.lif->shift.empty() && !task.lif->clips;
  plain ? lif_rows<true>(task) : lif_rows<false>(task);
}

// 32 pixels of 16 channels as words.
inline __m512i words_of(const std::uint32_t* masks, std::size_t stride, std::size_t channels) {
  __m512i words = _mm512_setzero_si512(), bit = _mm512_set1_epi16(1);
  for (std::size_t c = 0; c < channels; ++c) {
    words = _mm512_mask_add_epi16(words, masks[c * stride], words, bit);
    bit = _mm512_add_epi16(bit, bit);
  }
  return words;
}

void pack(const TablePackTask& task) {
  const std::size_t blocks = (task.pixels + 31) / 32, stride = task.steps * blocks, bytes = (task.channels + 7) / 8;
  for (std::size_t t = 0; t < task.steps; ++t) {
    for (std::size_t block = 0; block < blocks; ++block) {
      const std::uint32_t* masks = task.masks + t * blocks + block;
      __m512i words[4];
      unroll<4>([&](int i) {
        const auto from = static_cast<std::size_t>(16 * i);
        const std::size_t channels = task.channels > from ? std::min<std::size_t>(16, task.channels - from) : 0;
        words[i] = words_of(masks + from * stride, stride, channels);
      });
      // 64 channels of a pixel side by side; each of the four holds 2 of every 8 pixels.
      const __m512i a = _mm512_unpacklo_epi16(words[0], words[1]), b = _mm512_unpackhi_epi16(words[0], words[1]);
      const __m512i c = _mm512_unpacklo_epi16(words[2], words[3]), d = _mm512_unpackhi_epi16(words[2], words[3]);
      alignas(64) std::uint64_t pixel[4][8];
      store(pixel[0], _mm512_unpacklo_epi32(a, c));
      store(pixel[1], _mm512_unpackhi_epi32(a, c));
      store(pixel[2], _mm512_unpacklo_epi32(b, d));
      store(pixel[3], _mm512_unpackhi_epi32(b, d));
      const std::size_t count = std::min<std::size_t>(32, task.pixels - block * 32);
      std::uint8_t* out = task.out + t * task.step_stride + block * 32 * task.pixel_stride;
      for (std::size_t p = 0; p < count; ++p, out += task.pixel_stride) {
        put_bytes(out, pixel[p % 8 / 2][p / 8 * 2 + p % 2], bytes);
      }
    }
  }
}
