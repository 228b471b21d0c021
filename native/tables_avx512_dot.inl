// AVX-512 tables: the lookups. Included by tables_avx512.cpp.

// One tile of columns, one block of lookups, one chunk of rows.
struct BlockTask {
  const std::uint8_t* tables;
  std::size_t lookups;
  const std::uint32_t *runs, *runs_end;
  const std::uint8_t* indices;
  std::uint8_t* sums;  // [column][vector][2] of the blocks before and, unless this is the last one, with it
  bool add, last;      // there are blocks before; there are none behind
  std::size_t planes;  // columns per channel, from here on for the last block
  std::int16_t start[kColumns];
  __m128i shift;
  std::int16_t* out;
  std::size_t out_stride;
};

// Bytes are widened as 16-bit words of (even + 256 * odd byte) and of the odd byte.
template <int V>
struct Sums {
  __m512i both[kColumns * V], odd[kColumns * V];
};

// V vectors of rows: sums of all runs of the block.
template <int V>
[[gnu::always_inline]] inline void look_up(const BlockTask& task, Sums<V>& wide) {
  constexpr int kSums = static_cast<int>(kColumns) * V;
  const std::uint8_t *table = task.tables, *last = table + task.lookups * kColumns * kHalf, *indices = task.indices;
  unroll<kSums>([&](int i) { wide.both[i] = wide.odd[i] = _mm512_setzero_si512(); });
  for (const std::uint32_t* run = task.runs; run != task.runs_end; ++run) {
    __m512i sum[kSums];
    unroll<kSums>([&](int i) { sum[i] = _mm512_setzero_si512(); });
    for (std::size_t k = *run; k != 0; --k) {
      __m512i index[V];
      unroll<V>([&](int v) { index[v] = load(indices + v * 64); });
      _mm_prefetch(reinterpret_cast<const char*>(table + ahead(V)), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<const char*>(table + ahead(V) + 64), _MM_HINT_T0);
      unroll<static_cast<int>(kColumns)>([&](int c) {
        const __m512i low = load(table + c * kHalf);
        const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(reinterpret_cast<const int*>(last)[c]));
        unroll<V>([&](int v) {
          sum[c * V + v] = _mm512_add_epi8(sum[c * V + v], _mm512_permutex2var_epi8(low, index[v], high));
        });
      });
      table += kColumns * kHalf;
      last += kColumns * kLast;
      indices += V * 64;
    }
    unroll<kSums>([&](int i) {
      wide.both[i] = _mm512_add_epi16(wide.both[i], sum[i]);
      wide.odd[i] = _mm512_add_epi16(wide.odd[i], _mm512_srli_epi16(sum[i], 8));
    });
  }
}

// The same for 4 vectors, in assembly: all 32 registers are in use, and GCC 12 keeps some of the sums on the stack.
// zmm0-7 byte sums, zmm24-27 indices, zmm28-29 the table, zmm30-31 results.
#define EACH_SUM(f) f("0") f("1") f("2") f("3") f("4") f("5") f("6") f("7")
#define CLEAR(sum) "vpxord %%zmm" sum ", %%zmm" sum ", %%zmm" sum "\n\t"
#define CLEAR_WIDE(i)                            \
  "vpxord %[both" i "], %[both" i "], %[both" i "]\n\t" \
  "vpxord %[odd" i "], %[odd" i "], %[odd" i "]\n\t"
#define WIDEN(i)                                          \
  "vpaddw %%zmm" i ", %[both" i "], %[both" i "]\n\t"     \
  "vpsrlw $8, %%zmm" i ", %%zmm" i "\n\t"                 \
  "vpaddw %%zmm" i ", %[odd" i "], %[odd" i "]\n\t"
#define MAKE_TABLE(half, last_weight)         \
  "vmovdqu64 " half "(%[table]), %%zmm28\n\t" \
  "vpaddd " last_weight "(%[last])%{1to16%}, %%zmm28, %%zmm29\n\t"
#define LOOK_UP(index, sum, result)                    \
  "vmovdqa64 %%zmm" index ", %%zmm" result "\n\t"      \
  "vpermi2b %%zmm29, %%zmm28, %%zmm" result "\n\t"     \
  "vpaddb %%zmm" result ", %%zmm" sum ", %%zmm" sum "\n\t"
// Indices are used up by the last column.
#define LOOK_UP_LAST(index, sum)                  \
  "vpermi2b %%zmm29, %%zmm28, %%zmm" index "\n\t" \
  "vpaddb %%zmm" index ", %%zmm" sum ", %%zmm" sum "\n\t"
#define RESULT(i) [both##i] "=&v"(wide.both[i]), [odd##i] "=&v"(wide.odd[i])

template <>
[[gnu::always_inline]] inline void look_up<4>(const BlockTask& task, Sums<4>& wide) {
  static_assert(kColumns == 2 && kHalf == 64 && kLast == 4 && ahead(4) == 1024, "written out below");
  const std::uint8_t *table = task.tables, *last = table + task.lookups * kColumns * kHalf, *indices = task.indices;
  const std::uint32_t* run = task.runs;
  std::size_t count;
  asm(EACH_SUM(CLEAR_WIDE)
      "1:\n\t"
      "mov (%[run]), %k[count]\n\t"
      EACH_SUM(CLEAR)
      ".p2align 6\n"
      "2:\n\t"
      "vmovdqu64 (%[indices]), %%zmm24\n\t"
      "vmovdqu64 64(%[indices]), %%zmm25\n\t"
      "vmovdqu64 128(%[indices]), %%zmm26\n\t"
      "vmovdqu64 192(%[indices]), %%zmm27\n\t"
      "prefetcht0 1024(%[table])\n\t"
      "prefetcht0 1088(%[table])\n\t"
      MAKE_TABLE("0", "0")
      LOOK_UP("24", "0", "30") LOOK_UP("25", "1", "31") LOOK_UP("26", "2", "30") LOOK_UP("27", "3", "31")
      MAKE_TABLE("64", "4")
      LOOK_UP_LAST("24", "4") LOOK_UP_LAST("25", "5") LOOK_UP_LAST("26", "6") LOOK_UP_LAST("27", "7")
      "add $128, %[table]\n\t"
      "add $8, %[last]\n\t"
      "add $256, %[indices]\n\t"
      "dec %k[count]\n\t"
      "jnz 2b\n\t"
      EACH_SUM(WIDEN)
      "add $4, %[run]\n\t"
      "cmp %[run], %[runs_end]\n\t"
      "jne 1b\n\t"
      : RESULT(0), RESULT(1), RESULT(2), RESULT(3), RESULT(4), RESULT(5), RESULT(6), RESULT(7), [table] "+r"(table),
        [last] "+r"(last), [indices] "+r"(indices), [run] "+r"(run), [count] "=&r"(count)
      : [runs_end] "r"(task.runs_end)
      : "cc", "memory", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm24", "zmm25", "zmm26",
        "zmm27", "zmm28", "zmm29", "zmm30", "zmm31");
}

#undef EACH_SUM
#undef CLEAR
#undef CLEAR_WIDE
#undef WIDEN
#undef MAKE_TABLE
#undef LOOK_UP
#undef LOOK_UP_LAST
#undef RESULT

// Sums wait for the next block, or become currents of one or two columns per channel.
template <int V>
[[gnu::noinline]] void table_block(const BlockTask& task) {
  constexpr int kSums = static_cast<int>(kColumns) * V;
  Sums<V> wide;
  look_up<V>(task, wide);
  if (task.add) {
    unroll<kSums>([&](int i) {
      wide.both[i] = _mm512_add_epi16(wide.both[i], load(task.sums + 128 * i));
      wide.odd[i] = _mm512_add_epi16(wide.odd[i], load(task.sums + 128 * i + 64));
    });
  }
  if (!task.last) {
    unroll<kSums>([&](int i) {
      store(task.sums + 128 * i, wide.both[i]);
      store(task.sums + 128 * i + 64, wide.odd[i]);
    });
    return;
  }
  // Even bytes are rows 0 to 31, odd ones 32 to 63.
  unroll<kSums>([&](int i) { wide.both[i] = _mm512_sub_epi16(wide.both[i], _mm512_slli_epi16(wide.odd[i], 8)); });
  if (task.planes == 2) {
    unroll<V>([&](int v) {
      wide.both[v] = _mm512_add_epi16(wide.both[v], _mm512_sll_epi16(wide.both[V + v], task.shift));
      wide.odd[v] = _mm512_add_epi16(wide.odd[v], _mm512_sll_epi16(wide.odd[V + v], task.shift));
    });
  }
  unroll<static_cast<int>(kColumns)>([&](int c) {
    if (c != 0 && task.planes == 2) return;
    const __m512i start = _mm512_set1_epi16(task.start[c]);
    unroll<V>([&](int v) {
      const __m512i even = wide.both[c * V + v], odd = wide.odd[c * V + v];
      std::int16_t* out = task.out + c * task.out_stride + v * kRows;
      store(out, _mm512_add_epi16(even, start));
      store(out + 32, _mm512_add_epi16(odd, start));
    });
  });
}

void dot(const TableDotTask& task) {
  static constexpr void (*kBlocks[])(const BlockTask&) = {table_block<1>, table_block<2>, table_block<3>,
                                                          table_block<4>};
  const TableLayer& layer = *task.layer;
  const std::size_t per_tile = kColumns / layer.planes, end = task.first_channel + task.channels;
  const std::size_t end_tile = (end + per_tile - 1) / per_tile;
  BlockTask block{};
  block.planes = layer.planes;
  block.shift = _mm_cvtsi32_si128(static_cast<int>(layer.shift));
  block.out_stride = layer.row_stride();
  for (std::size_t first = task.first_channel / per_tile; first < end_tile;) {
    const std::size_t pass_end = std::min(end_tile, (first / kTablePass + 1) * kTablePass);
    for (std::size_t chunk = 0; chunk < task.vectors; chunk += kTableChunk) {
      const std::size_t vectors = std::min(kTableChunk, task.vectors - chunk);
      block.indices = task.indices + chunk * kRows * layer.lookups;
      for (std::size_t b = 0; b < layer.blocks; ++b) {
        block.add = b != 0;
        block.last = b + 1 == layer.blocks;
        block.lookups = layer.lookups_in(b);
        for (std::size_t tile = first; tile < pass_end; ++tile) {
          block.tables = layer.tables.data() + layer.place(tile, b);
          block.runs = layer.runs.data() + layer.first_run[tile * layer.blocks + b];
          block.runs_end = layer.runs.data() + layer.first_run[tile * layer.blocks + b + 1];
          block.sums = task.sums + (tile - first) * 2 * kColumns * kTableChunk * kRows;
          if (block.last) {
            for (std::size_t c = 0; c < per_tile; ++c) {  // columns of absent channels are computed and land in `out`
              const std::size_t channel = tile * per_tile + c;
              block.start[c] = channel < layer.channels ? task.start[channel] : std::int16_t{0};
            }
            block.out = task.out + (tile * per_tile - task.first_channel) * block.out_stride + chunk * kRows;
          }
          kBlocks[vectors - 1](block);
        }
        block.indices += block.lookups * vectors * kRows;
      }
    }
    first = pass_end;
  }
}
