// Spikes times b-bit weights by table lookup.
//
// A group of `kGroup` input spikes of one tap indexes a table that holds every sum of the group's weights, so one byte
// shuffle replaces kGroup multiplications in each lane, whatever the width of the weights. Lanes are rows: a row is
// one output pixel at one time step, row = step * tile pixels + pixel. Everything is exact modulo 2^16; a layer is
// eligible where its Lif provably fits 16 bits, for there wrapping around does no harm.
//
// Once per source edge   planes    channel bits -> index bytes [group][step][pixel]
// Once per tile          gather    index bytes -> what each tap of each row sees, [tap * groups + group][row]
// Per 16 channels        dot       indices -> currents, int16 [channel][row]
//                        lif       currents -> spike masks [channel][step][32 pixels]
// Per 64 channels        pack      masks -> channel bits of the destination edge
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "prepare.hpp"

namespace bitspike {

constexpr std::size_t kTableChunk = 4;         // vectors of rows that share a pass over the tables
constexpr std::size_t kTablePass = 8;          // tiles of columns that share a block of indices
constexpr std::size_t kTableLifChannels = 16;  // channels whose currents exist at once
constexpr std::size_t kTablePackChannels = 64;

// One edge of spikes as index bytes, shared by all layers that read it.
struct TableSource {
  std::size_t steps = 0, channels = 0, height = 0, width = 0, pixel_bytes = 0;
  std::size_t groups = 0;  // index bytes per pixel
  std::size_t front = 0;   // bytes before the first plane: windows start up to `padding` lines above it
  std::size_t bytes = 0;   // memory of all planes

  std::size_t pixels() const { return height * width; }
  // Bytes of one group: an odd number of cache lines, so that groups do not compete for the same places in a cache.
  std::size_t plane() const { return (round_up(steps * pixels(), 64) / 64 | 1) * 64; }
};

// Where a layer's weights and its scratch memory lie, for one level.
struct TableLayer {
  TableSource source;
  std::size_t channels = 0, out_height = 0, out_width = 0;
  std::size_t kernel_height = 0, kernel_width = 0, stride = 1, padding = 0;

  std::size_t lookups = 0;     // taps * groups, per row and column
  std::size_t planes = 1;      // columns per channel: weight = first + (second << shift)
  std::size_t shift = 0;
  std::size_t blocks = 1;         // of lookups: the indices of one block stay in the first-level cache
  std::size_t block_lookups = 0;  // in all but the last block
  std::size_t tiles = 0;          // of TableKernels::columns columns
  // [pass of kTablePass tiles][block][tile of the pass], in the order of use; what each holds: TableKernels::fill.
  AlignedBuffer tables;
  std::vector<std::uint32_t> first_run;  // [tile][block]: place in `runs`, and the end of the last one
  std::vector<std::uint32_t> runs;       // lookups in a row whose sum stays within a byte
  std::vector<std::int16_t> start;       // per channel: undoes that tables hold no negative numbers
  std::vector<std::int64_t> low, high;   // per channel: ends of the exact current
  bool currents_fit_int16 = false;       // all of them do, so currents may be widened

  std::size_t tile_pixels = 0;  // output pixels that are computed together (the last tile may have fewer)
  std::size_t vectors = 0;      // of rows, in a full tile
  std::size_t lanes = 0;        // rows per vector
  std::size_t lookup_bytes = 0;

  std::size_t out_pixels() const { return out_height * out_width; }
  std::size_t row_stride() const { return vectors * lanes; }
  std::size_t lookups_in(std::size_t block) const {
    return block + 1 < blocks ? block_lookups : lookups - block * block_lookups;
  }
  // Bytes of one tile's tables in a block, and where they lie.
  std::size_t section(std::size_t block) const { return round_up(lookups_in(block) * lookup_bytes, kAlignment); }
  std::size_t tile_bytes() const { return (blocks - 1) * section(0) + section(blocks - 1); }
  std::size_t place(std::size_t tile, std::size_t block) const {
    const std::size_t pass = tile / kTablePass, width = pass_tiles(pass);
    return pass * kTablePass * tile_bytes() + block * width * section(0) + tile % kTablePass * section(block);
  }
  std::size_t pass_tiles(std::size_t pass) const {
    const std::size_t rest = tiles - pass * kTablePass;
    return rest < kTablePass ? rest : kTablePass;
  }
};

// ir.Lif modulo 2^16, with one source.
struct TableLif {
  std::vector<std::int16_t> start;       // of the currents: the layer's, with the bias where nothing is multiplied
  std::vector<std::int16_t> multiplier;  // empty where all are 1
  std::vector<std::int16_t> bias;        // empty where `multiplier` is
  std::vector<std::int16_t> threshold;
  std::vector<std::uint8_t> shift;       // empty where all are 0
  std::int16_t limit = 0;
  bool clips = true;                     // false: the membrane provably never reaches the limit
  std::int32_t leak_shift = 0;
  bool soft_reset = false;
};

struct TablePlanesTask {
  const TableSource* source;
  const std::uint8_t* edge;  // [step][pixel][pixel_bytes]; up to 64 bytes behind it may be read
  std::uint8_t* planes;      // TableSource::bytes
  std::size_t first, pixels;
};

// Output pixels [first, first + pixels) of one tile.
struct TableGatherTask {
  const TableLayer* layer;
  const std::uint8_t* planes;
  std::size_t first, pixels;
  std::uint8_t* maps;     // scratch
  std::uint8_t* indices;  // [chunk of kTableChunk vectors][lookup][vector of the chunk][lanes]
};

struct TableDotTask {
  const TableLayer* layer;
  const std::uint8_t* indices;
  std::size_t vectors;  // of the tile at hand
  std::size_t first_channel, channels;
  const std::int16_t* start;  // per channel of the layer
  std::uint8_t* sums;         // scratch
  std::int16_t* out;          // [channel - first_channel][row_stride]
};

struct TableLifTask {
  const TableLif* lif;
  std::size_t first_channel, channels;
  const std::int16_t* currents;  // [channel - first_channel][row_stride]
  std::size_t row_stride;
  std::size_t steps, pixels;
  std::uint32_t* masks;  // [channel - first_channel][step][(pixels + 31) / 32], bits beyond `pixels` undefined
};

struct TablePackTask {
  const std::uint32_t* masks;
  std::size_t channels;  // at most kTablePackChannels
  std::size_t steps, pixels;
  std::uint8_t* out;  // byte of the first channel, of the first pixel at step 0
  std::size_t step_stride, pixel_stride;
};

struct TableWidenTask {
  const std::int16_t* currents;  // [channel][row_stride]
  std::size_t row_stride, channels;  // at most kTableLifChannels
  std::size_t steps, pixels;
  std::int32_t* out;  // [pixel][step][lanes], 16 channels are written for each
  std::size_t pixel_stride, step_stride;
};

struct TableKernels {
  const char* name;
  std::size_t group;    // spikes per index byte
  std::size_t lanes;    // rows per vector
  std::size_t columns;  // that share a pass over the indices: a tile
  std::size_t lookup_bytes;  // of the tables of one lookup in one tile
  std::size_t map_bytes;     // scratch of `gather`
  // Tables of one tile and block: `weights` [columns][lookups][group], `pitch` lookups from column to column, those of
  // absent inputs and columns are 0.
  void (*fill)(const std::int8_t* weights, std::size_t pitch, std::size_t lookups, std::uint8_t* tables);
  void (*planes)(const TablePlanesTask&);
  void (*gather)(const TableGatherTask&);
  void (*dot)(const TableDotTask&);
  void (*lif)(const TableLifTask&);
  void (*pack)(const TablePackTask&);
  void (*widen)(const TableWidenTask&);
};

const TableKernels* avx2_tables();    // null where this build has none
const TableKernels* avx512_tables();  // needs VBMI; null where this build has none

// Planes of an edge; `padding` is the largest of the layers that read it.
TableSource make_table_source(const TableKernels& kernels, const Edge& edge, std::size_t padding);

// What a Conv (groups 1) or Linear computes, without weights.
struct TableShape {
  std::size_t channels, out_height, out_width, kernel_height, kernel_width, stride, padding;
};

// Whether sizes are within what the kernels can address.
bool tables_accept(const TableSource& source, const TableShape& shape);

// Everything but the tables. `weights` (M, C, kh, kw), C the source's channels; at most 8 bits each.
TableLayer plan_tables(const TableKernels& kernels, const TableSource& source, const TableShape& shape,
                       const std::int8_t* weights);

// Memory of the planned layer's tables.
std::size_t table_bytes(const TableLayer& layer);

// Allocates and fills them.
void fill_tables(const TableKernels& kernels, TableLayer& layer, const std::int8_t* weights);

// Parameters of a Lif node with one source, all of whose channels fit 16 bits.
TableLif prepare_table_lif(const TableLayer& layer, const Node& lif, std::size_t steps);

// Scratch memory of one thread that runs tiles of the layer.
std::size_t table_scratch_bytes(const TableKernels& kernels, const TableLayer& layer);

// Spikes of output pixels [first, first + pixels) (pixels <= layer.tile_pixels) and channels [first_channel,
// first_channel + channels), both multiples of 8 unless the range ends at the last channel. `out` is the whole
// destination edge, [step][pixel][pixel_bytes]; other bytes of it are not touched.
void run_table_tile(const TableKernels& kernels, const TableLayer& layer, const TableLif& lif,
                    const std::uint8_t* planes, std::size_t first, std::size_t pixels, std::size_t first_channel,
                    std::size_t channels, std::uint8_t* scratch, std::uint8_t* out, std::size_t pixel_bytes);

// The currents themselves for such a tile, int32 [pixel][step][out_lanes], for a Lif that sums two sources in 32
// bits. Needs layer.currents_fit_int16. `first_channel` is a multiple of 16; whole blocks of 16 are written.
void run_table_currents(const TableKernels& kernels, const TableLayer& layer, const std::uint8_t* planes,
                        std::size_t first, std::size_t pixels, std::size_t first_channel, std::size_t channels,
                        std::uint8_t* scratch, std::int32_t* out, std::size_t out_lanes);

}  // namespace bitspike
