// 3x3 convolutions with stride 1 and padding 1 in fewer multiplications: Winograd's F(4x4, 3x3), with the matrices of Lavin
// and Gray, arXiv 1509.09308. A tile of 4x4 outputs, the 6x6 inputs under it and the 3x3 weights become 6x6 points each,
//
//     out = A' [sum over inputs of (G w G') * (B' in B)] A
//
// so that a channel pair takes 36 products where the sum itself takes 144. Gradients are the adjoints: by the input the
// same with the weights turned round, by the weights G' [sum over tiles of (B' in B) * (A g A')] G.
//
// Maps are [image][row][column][channel]. Points of tiles are [point][panel of channels][tile][channel], channels filled up
// with zeros, points a cache line further apart than that so that they do not all meet in one set of a cache.
#pragma once

#include <cstddef>

namespace bitspike::training {

constexpr std::size_t kPoints = 36;
constexpr std::size_t kTile = 4;  // outputs of a tile, along either axis

struct Maps {
  const void* numbers;
  std::size_t images, height, width, channels;

  std::size_t tile_columns() const { return (width + kTile - 1) / kTile; }
  std::size_t tiles_of_image() const { return (height + kTile - 1) / kTile * tile_columns(); }
  std::size_t tiles() const { return images * tiles_of_image(); }
};

// out[image][row][column][output] = bias[output] + sum over inputs and the 3x3 weights around; no bias where null.
struct WinogradTask {
  Maps maps;  // input
  const void *weights, *bias;
  void* out;
  std::size_t outputs, output_stride, input_stride;  // of 3x3 weights, which have no gaps
  bool turned;    // weights by 180 degrees
  bool streamed;  // results go past the caches; pixels start with a line of them
};

// by_weights[output][input][3][3] from the input and the gradient by the output.
struct WinogradWeightTask {
  Maps maps, by_output;
  void* by_weights;
};

// Scratch is aligned to a register and not initialised.
struct WinogradKernels {
  std::size_t panel;  // channels side by side
  std::size_t rows;   // channels or tiles that are multiplied together: blocks of tiles are whole multiples
  // Points of the weights of one panel of outputs: [point][input][panel].
  void (*weights)(const WinogradTask& task, std::size_t panel, void* points);
  // Tiles first to first + count, `count` at most `block`; `points` of all panels of weights.
  // scratch: zeros for one pixel of the input, then points of tiles of the input and of one panel of outputs.
  void (*forward)(const WinogradTask& task, const void* points, std::size_t first, std::size_t count,
                  std::size_t block, void* scratch);
  // Points of tiles `from` to `to` of a block that starts at tile `first`; `zeros` for one pixel.
  void (*input)(const Maps& maps, std::size_t first, std::size_t from, std::size_t to, std::size_t block,
                const void* zeros, void* points);
  void (*by_output)(const Maps& maps, std::size_t first, std::size_t from, std::size_t to, std::size_t block,
                    const void* zeros, void* points);
  // Adds the products of one point and panel of inputs, summed over `count` tiles, to `sums`, [point][input][output] in
  // whole panels; or sets them.
  void (*products)(const WinogradWeightTask& task, const void* inputs, const void* gradients, std::size_t point,
                   std::size_t panel, std::size_t count, std::size_t block, bool set, void* sums);
  // Gradients by all weights of one input, from the sums.
  void (*by_weights)(const WinogradWeightTask& task, std::size_t input, const void* sums);
};

// Channels filled up to whole panels; numbers between points of `block` tiles, in lines of 64 bytes.
inline std::size_t in_panels(std::size_t channels, std::size_t panel) {
  return (channels + panel - 1) / panel * panel;
}
inline std::size_t between_points(std::size_t channels, std::size_t panel, std::size_t block, std::size_t number) {
  return in_panels(channels, panel) * block + 64 / number;
}

// The whole work on up to `threads` threads; results do not depend on their number. May throw std::bad_alloc.
void winograd_forward(const WinogradTask& task, const WinogradKernels& kernels, std::size_t number, unsigned threads);
void winograd_by_weights(const WinogradWeightTask& task, const WinogradKernels& kernels, std::size_t number,
                         unsigned threads);

}  // namespace bitspike::training
