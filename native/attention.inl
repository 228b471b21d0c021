// Loops of spiking self-attention, compiled by every level for itself. The level has defined, inside an unnamed
// namespace: `Ints`, 16 lanes of int32, and `Shorts<V>`, 32 V lanes of uint16.

// Exchanges bit `Distance` of the position in a row with bit `Stride` of the row's place.
template <std::size_t Stride, std::size_t Distance>
inline void exchange(std::uint64_t* rows, std::uint64_t mask) {
  for (std::size_t base = 0; base < 64; base += 2 * Stride) {
    for (std::size_t i = base; i < base + Stride; ++i) {
      const std::uint64_t moved = ((rows[i] >> Distance) ^ rows[i + Stride]) & mask;
      rows[i] ^= moved << Distance;
      rows[i + Stride] ^= moved;
    }
  }
}

// Row i stands at this place before it is transposed.
constexpr std::size_t place(std::size_t i) { return i % 8 * 8 + i / 8; }

// Bit j of row i becomes bit i of row j. Every exchange is between places at least 8 apart, so it works on whole
// registers; in between, rows move from place(i) to i.
inline void transpose(std::uint64_t* placed, std::uint64_t* rows) {
  exchange<32, 4>(placed, 0x0F0F0F0F0F0F0F0F);
  exchange<16, 2>(placed, 0x3333333333333333);
  exchange<8, 1>(placed, 0x5555555555555555);
  for (std::size_t i = 0; i < 8; ++i) {
    const std::uint64_t* from = placed + i;
    std::uint64_t* to = rows + 8 * i;
    to[0] = from[0];
    to[1] = from[8];
    to[2] = from[16];
    to[3] = from[24];
    to[4] = from[32];
    to[5] = from[40];
    to[6] = from[48];
    to[7] = from[56];
  }
  exchange<32, 32>(rows, 0x00000000FFFFFFFF);
  exchange<16, 16>(rows, 0x0000FFFF0000FFFF);
  exchange<8, 8>(rows, 0x00FF00FF00FF00FF);
}

// Words of 32 tokens of channels first .. first + count - 1 at one step: a run of 16 channels has its words
// `word_stride` apart, runs are `run_stride` apart. The last run is filled up with zeros.
[[gnu::noinline]] void pack_tokens(const SpikeBits& edge, std::size_t step, std::size_t tokens, std::size_t first,
                               std::size_t count, std::uint32_t* out, std::size_t run_stride,
                               std::size_t word_stride) {
  alignas(64) std::uint64_t placed[64], rows[64];
  for (std::size_t channel = 0; channel < count; channel += 64) {
    const std::size_t channels = count - channel < 64 ? count - channel : 64, at = first + channel;
    for (std::size_t token = 0; token < tokens; token += 64) {
      const std::size_t used = tokens - token < 64 ? tokens - token : 64;
      const std::uint8_t* pixel = edge.at(step, token);
      if (used < 64) std::memset(placed, 0, sizeof placed);
      if (at % 8 == 0 && channels == 64) {
        for (std::size_t i = 0; i < used; ++i) std::memcpy(placed + place(i), pixel + i * edge.pixel_bytes + at / 8, 8);
      } else {
        for (std::size_t i = 0; i < used; ++i) placed[place(i)] = bits_at(pixel + i * edge.pixel_bytes, at, channels);
      }
      transpose(placed, rows);
      std::uint32_t* to = out + channel / 16 * run_stride + token / 32 * word_stride;
      for (std::size_t run = 0; 16 * run < channels; ++run, to += run_stride) {
        for (std::size_t i = 0; i < 16; ++i) to[i] = static_cast<std::uint32_t>(rows[16 * run + i]);
        if (used <= 32) continue;
        for (std::size_t i = 0; i < 16; ++i) to[word_stride + i] = static_cast<std::uint32_t>(rows[16 * run + i] >> 32);
      }
    }
  }
}

// kCountedRows (two or four: as many sums as stay in registers) rows of G for 16 value channels, `key`
// [words][key_stride] against `value` [words][16].
template <class Number>
inline void count_rows(const std::uint32_t* key, std::size_t key_stride, const std::uint32_t* value, std::size_t words,
                       Number* out, std::size_t lanes) {
  constexpr bool four = kCountedRows == 4;
  Ints a = Ints::zero(), b = a, c = a, d = a;
  for (std::size_t k = 0; k < words; ++k, key += key_stride, value += 16) {
    a.add_hits(value, key[0]);
    b.add_hits(value, key[1]);
    if constexpr (four) c.add_hits(value, key[2]);
    if constexpr (four) d.add_hits(value, key[3]);
  }
  a.store(out);
  b.store(out + lanes);
  if constexpr (four) c.store(out + 2 * lanes);
  if constexpr (four) d.store(out + 3 * lanes);
}

// G of one unit.
template <class Number>
void count_unit(const AttentionPlan& plan, const std::uint32_t* key, const std::uint32_t* value, Number* rows) {
  const std::size_t words = plan.words(), lanes = plan.lanes(), key_lanes = plan.key_lanes();
  for (std::size_t i = 0; i < key_lanes; i += kCountedRows, rows += kCountedRows * lanes) {
    for (std::size_t j = 0; j < lanes; j += 16) {
      count_rows(key + i, key_lanes, value + j * words, words, rows + j, lanes);
    }
  }
}

void attention_prepare(const AttentionTask& task, std::size_t first, std::size_t last) {
  if (first == last) return;
  const AttentionPlan& plan = task.plan;
  const std::size_t words = plan.words(), key_lanes = plan.key_lanes();
  auto* key = reinterpret_cast<std::uint32_t*>(task.local);  // [words][key lanes]
  std::uint32_t* value = key + key_lanes * words;            // [block of 16][words][16]
  for (std::size_t unit = first; unit < last; ++unit) {
    const std::size_t step = unit / plan.heads, head = unit % plan.heads;
    pack_tokens(task.key, step, plan.tokens, head * plan.key_channels, plan.key_channels, key, 16, key_lanes);
    pack_tokens(task.value, step, plan.tokens, head * plan.value_channels, plan.value_channels, value, words * 16, 16);
    std::uint8_t* rows = task.shared + unit * plan.unit_bytes();
    if (plan.wide) {
      count_unit(plan, key, value, reinterpret_cast<std::int32_t*>(rows));
    } else {
      count_unit(plan, key, value, reinterpret_cast<std::uint16_t*>(rows));
    }
  }
}

// Query bits of one head, pixel after pixel.
struct QueryRows {
  const std::uint8_t* pixel;
  std::size_t pixel_bytes, first, channels;

  // Channels c .. c + 63 of pixel p.
  std::uint64_t at(std::size_t p, std::size_t c) const {
    const std::size_t used = channels - c < 64 ? channels - c : 64;
    return bits_at(pixel + p * pixel_bytes, first + c, used);
  }
};

// Where currents go: numbers 0 .. count - 1 of each pixel.
struct CurrentRows {
  std::int32_t* data;
  std::size_t stride, count, pixels;
};

// Sums of the rows [lanes] that the query's bits select.
template <class Sum, class Number>
void add_selected(const Number* rows, std::size_t lanes, const QueryRows& query, const CurrentRows& out) {
  for (std::size_t p = 0; p < out.pixels; ++p) {
    Sum sum = Sum::zero();
    const Number* row = rows;
    for (std::size_t c = 0; c < query.channels; c += 64, row += 64 * lanes) {
      for (std::uint64_t bits = query.at(p, c); bits != 0; bits &= bits - 1) sum.add(row + lowest_bit(bits) * lanes);
    }
    sum.store(out.data + p * out.stride, out.count);
  }
}

void currents_from_products(const AttentionTask& task, std::size_t first, std::size_t pixels, std::int32_t* out,
                            std::size_t pixel_stride, std::size_t step_stride) {
  const AttentionPlan& plan = task.plan;
  const std::size_t count = plan.value_channels, lanes = plan.lanes();
  for (std::size_t unit = 0; unit < plan.units(); ++unit) {
    const std::size_t step = unit / plan.heads, head = unit % plan.heads;
    const std::uint8_t* rows = task.shared + unit * plan.unit_bytes();
    const QueryRows query{task.query.at(step, first), task.query.pixel_bytes, head * plan.key_channels,
                          plan.key_channels};
    std::int32_t* to = out + step * step_stride + head * count;
    for (std::size_t j = 0; j < count; j += plan.wide ? 16 : 64) {
      const CurrentRows part{to + j, pixel_stride, count - j, pixels};
      const auto* shorts = reinterpret_cast<const std::uint16_t*>(rows) + j;
      if (plan.wide) {
        add_selected<Ints>(reinterpret_cast<const std::int32_t*>(rows) + j, lanes, query, part);
      } else if (count - j > 32) {
        add_selected<Shorts<2>>(shorts, lanes, query, part);
      } else {
        add_selected<Shorts<1>>(shorts, lanes, query, part);
      }
    }
  }
}

void currents_from_scores(const AttentionTask& task, std::size_t first, std::size_t pixels, std::int32_t* out,
                          std::size_t pixel_stride, std::size_t step_stride) {
  const AttentionPlan& plan = task.plan;
  const std::size_t channels = plan.key_channels, count = plan.value_channels;
  auto* scores = reinterpret_cast<std::int32_t*>(task.local);
  for (std::size_t p = 0; p < pixels; ++p) {
    for (std::size_t step = 0; step < plan.steps; ++step) {
      const std::uint8_t* query = task.query.at(step, first + p);
      for (std::size_t head = 0; head < plan.heads; ++head) {
        for (std::size_t token = 0; token < plan.tokens; ++token) {
          const std::uint8_t* key = task.key.at(step, token);
          std::int32_t score = 0;
          for (std::size_t c = 0; c < channels; c += 64) {
            const std::size_t bits = channels - c < 64 ? channels - c : 64, at = head * channels + c;
            score += count_bits(bits_at(query, at, bits) & bits_at(key, at, bits));
          }
          scores[token] = score;
        }
        std::int32_t* to = out + p * pixel_stride + step * step_stride + head * count;
        for (std::size_t j = 0; j < count; j += 16) {
          Ints sum = Ints::zero();
          for (std::size_t token = 0; token < plan.tokens; ++token) {
            const auto spikes = static_cast<std::uint32_t>(bits_at(task.value.at(step, token), head * count + j, 16));
            sum.add_where(spikes, scores[token]);
          }
          sum.store(to + j, count - j);
        }
      }
    }
  }
}

void attention_currents(const AttentionTask& task, std::size_t first, std::size_t pixels, std::int32_t* out,
                        std::size_t pixel_stride, std::size_t step_stride) {
  const auto currents = task.plan.scores ? currents_from_scores : currents_from_products;
  currents(task, first, pixels, out, pixel_stride, step_stride);
}
