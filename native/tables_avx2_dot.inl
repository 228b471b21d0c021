// AVX2 tables: the lookups. Included by tables_avx2.cpp.

// V vectors of rows times one tile of columns in one block of lookups. `sums` [column][vector][2]: 16-bit words of
// (even + 256 * odd byte), and of the odd byte.
template <int V>
[[gnu::noinline]] void table_block(const std::uint8_t* table, const std::uint32_t* run, const std::uint32_t* runs_end,
                                   const std::uint8_t* indices, std::uint8_t* sums) {
  constexpr int kSums = static_cast<int>(kColumns) * V;
  for (; run != runs_end; ++run) {
    __m256i sum[kSums];
    unroll<kSums>([&](int i) { sum[i] = _mm256_setzero_si256(); });
    for (std::size_t k = *run; k != 0; --k) {
      const __m256i first = load_twice(table), second = load_twice(table + kTable);
      unroll<V>([&](int v) {
        const __m256i index = load(indices + static_cast<std::size_t>(v) * kRows);
        sum[v] = _mm256_add_epi8(sum[v], _mm256_shuffle_epi8(first, index));
        sum[V + v] = _mm256_add_epi8(sum[V + v], _mm256_shuffle_epi8(second, index));
      });
      table += kColumns * kTable;
      indices += V * kRows;
    }
    asm volatile("" ::: "memory");  // else GCC keeps all of `sums` in registers, that is, on the stack
    unroll<kSums>([&](int i) {
      std::uint8_t* both = sums + 2 * kRows * static_cast<std::size_t>(i);
      store(both, _mm256_add_epi16(load(both), sum[i]));
      store(both + kRows, _mm256_add_epi16(load(both + kRows), _mm256_srli_epi16(sum[i], 8)));
    });
  }
}

struct Currents {
  __m256i first, second;  // rows 0 to 15 and 16 to 31
};

inline Currents currents_of(const std::uint8_t* sums) {
  const __m256i odd = load(sums + kRows);
  return {_mm256_sub_epi16(load(sums), _mm256_slli_epi16(odd, 8)), odd};
}

// One channel, `planes` columns of `vectors` vectors each.
void finish(const std::uint8_t* sums, std::size_t planes, std::size_t shift, std::size_t vectors, std::int16_t start,
            std::int16_t* out) {
  const __m256i lift = _mm256_set1_epi16(start);
  const __m128i places = _mm_cvtsi32_si128(static_cast<int>(shift));
  for (std::size_t v = 0; v < vectors; ++v, out += kRows) {
    Currents x = currents_of(sums + 2 * kRows * v);
    if (planes == 2) {
      const Currents y = currents_of(sums + 2 * kRows * (vectors + v));
      x.first = _mm256_add_epi16(x.first, _mm256_sll_epi16(y.first, places));
      x.second = _mm256_add_epi16(x.second, _mm256_sll_epi16(y.second, places));
    }
    store(out, _mm256_add_epi16(x.first, lift));
    store(out + 16, _mm256_add_epi16(x.second, lift));
  }
}

void dot(const TableDotTask& task) {
  static constexpr decltype(&table_block<1>) kBlock[] = {table_block<1>, table_block<2>, table_block<3>,
                                                         table_block<4>};
  const TableLayer& layer = *task.layer;
  const std::size_t per_tile = kColumns / layer.planes, end = task.first_channel + task.channels;
  const std::size_t end_tile = (end + per_tile - 1) / per_tile;
  constexpr std::size_t kTileSums = 2 * kColumns * kTableChunk * kRows;
  for (std::size_t first = task.first_channel / per_tile; first < end_tile;) {
    const std::size_t pass_end = std::min(end_tile, (first / kTablePass + 1) * kTablePass);
    for (std::size_t chunk = 0; chunk < task.vectors; chunk += kTableChunk) {
      const std::size_t vectors = std::min(kTableChunk, task.vectors - chunk);
      const std::uint8_t* indices = task.indices + chunk * kRows * layer.lookups;
      std::memset(task.sums, 0, (pass_end - first) * kTileSums);
      for (std::size_t block = 0; block < layer.blocks; ++block) {
        for (std::size_t tile = first; tile < pass_end; ++tile) {
          const std::uint32_t* runs = layer.runs.data() + layer.first_run[tile * layer.blocks + block];
          const std::uint32_t* runs_end = layer.runs.data() + layer.first_run[tile * layer.blocks + block + 1];
          std::uint8_t* sums = task.sums + (tile - first) * kTileSums;
          kBlock[vectors - 1](layer.tables.data() + layer.place(tile, block), runs, runs_end, indices, sums);
          if (block + 1 < layer.blocks) continue;
          for (std::size_t channel = tile * per_tile; channel < std::min((tile + 1) * per_tile, end); ++channel) {
            finish(sums + 2 * kRows * vectors * layer.planes * (channel - tile * per_tile), layer.planes, layer.shift,
                   vectors, task.start[channel],
                   task.out + (channel - task.first_channel) * layer.row_stride() + chunk * kRows);
          }
        }
        indices += layer.lookups_in(block) * vectors * kRows;
      }
    }
    first = pass_end;
  }
}
