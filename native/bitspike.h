/* bitspike: run .bspk networks from C, or from any language that can call C.
 *
 *   bitspike_network *net;
 *   if (bitspike_load_file("model.bspk", NULL, 0, &net) != BITSPIKE_OK) {
 *     fprintf(stderr, "%s\n", bitspike_error());
 *     return 1;
 *   }
 *   bitspike_run(net, samples, n, logits, 1);
 *   bitspike_free(net);
 *
 * A function that can fail returns a bitspike_status; bitspike_error() then has one sentence that names the place, the
 * value and what is accepted. No function throws, aborts, prints or changes global state. Calls on one network may run
 * at the same time on several threads, except bitspike_free.
 *
 * A network reads unsigned bytes and computes with integers only: results are the same on every machine, at every
 * kernel level and for every number of threads.
 */
#ifndef BITSPIKE_H
#define BITSPIKE_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define BITSPIKE_API __attribute__((visibility("default")))
#else
#define BITSPIKE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bitspike_status {
  BITSPIKE_OK = 0,
  BITSPIKE_ERROR_FILE = 1,      /* the file cannot be read */
  BITSPIKE_ERROR_FORMAT = 2,    /* the bytes are no valid network, or need more memory than allowed */
  BITSPIKE_ERROR_ARGUMENT = 3,  /* an argument is not accepted */
  BITSPIKE_ERROR_SELF_TEST = 4, /* a stored test vector gives another result */
  BITSPIKE_ERROR_MEMORY = 5,    /* the system has no more memory */
  BITSPIKE_ERROR_INTERNAL = 6   /* a fault of this library */
} bitspike_status;

/* A loaded network. */
typedef struct bitspike_network bitspike_network;

/* What a network reads and gives. One sample is `frames` x channels x height x width bytes, in that order; one spike
 * train is time_steps x channels x height x width of its layer. */
typedef struct bitspike_shape {
  uint32_t time_steps; /* T */
  uint32_t frames;     /* 1: the sample is shown at every step; T: one frame per step */
  uint32_t channels, height, width;
  uint32_t classes;
  uint32_t spike_layers;  /* neuron layers whose spikes bitspike_trace gives */
  uint32_t test_vectors;  /* stored samples with expected results */
  uint64_t sample_bytes;  /* frames x channels x height x width */
  uint64_t file_bytes;    /* size of the artifact */
  uint64_t memory_bytes;  /* artifact, prepared weights and working memory of one run */
} bitspike_shape;

/* Version of the library, "major.minor.patch". */
BITSPIKE_API const char *bitspike_version(void);

/* What went wrong in the last failed call of this thread; "" if none failed. Valid until the thread's next call. */
BITSPIKE_API const char *bitspike_error(void);

/* Name of kernel level `index` that this machine can run, slowest first; NULL beyond the last. */
BITSPIKE_API const char *bitspike_level_name(unsigned index);

/* Processors this process may use: the largest useful number of threads. */
BITSPIKE_API unsigned bitspike_cpus(void);

/* Verifies `size` bytes of an artifact and prepares it to run; the bytes are copied. `level` forces a kernel level;
 * NULL takes the one that the environment variable BITSPIKE_LEVEL names, else the fastest. `max_memory` bounds the bytes
 * that the network may use, 0 means 1 GiB. *network is NULL on failure. */
BITSPIKE_API bitspike_status bitspike_load(const void *data, size_t size, const char *level, uint64_t max_memory,
                                           bitspike_network **network);

/* The same from a file. */
BITSPIKE_API bitspike_status bitspike_load_file(const char *path, const char *level, uint64_t max_memory,
                                                bitspike_network **network);

/* Frees a network that no thread uses any more; NULL is allowed. */
BITSPIKE_API void bitspike_free(bitspike_network *network);

/* Fills *shape. */
BITSPIKE_API void bitspike_get_shape(const bitspike_network *network, bitspike_shape *shape);

/* Kernel level the network runs at. */
BITSPIKE_API const char *bitspike_level(const bitspike_network *network);

/* Writes a description of the network, one line per node, as a string of at most `size` bytes with its end, and returns
 * the number of bytes that the whole text needs (0: no memory). `text` may be NULL if `size` is 0. */
BITSPIKE_API size_t bitspike_describe(const bitspike_network *network, char *text, size_t size);

/* Logits (n x classes) of n samples (n x sample_bytes). `threads` is the number of threads to use, the calling one
 * included; 0 means bitspike_cpus(). */
BITSPIKE_API bitspike_status bitspike_run(const bitspike_network *network, const uint8_t *samples, size_t n,
                                          int32_t *logits, unsigned threads);

/* Logits before they are summed over time (n x time_steps x classes). */
BITSPIKE_API bitspike_status bitspike_run_steps(const bitspike_network *network, const uint8_t *samples, size_t n,
                                                int32_t *steps, unsigned threads);

/* Bytes of the spikes of one sample in spike layer `layer`: time_steps x channels x height x width; 0 if there is no
 * such layer. */
BITSPIKE_API uint64_t bitspike_spike_bytes(const bitspike_network *network, uint32_t layer);

/* Spikes, one byte 0 or 1 each: spikes[layer] points to n x bitspike_spike_bytes(network, layer) bytes, for every one of
 * the spike_layers layers. */
BITSPIKE_API bitspike_status bitspike_trace(const bitspike_network *network, const uint8_t *samples, size_t n,
                                            uint8_t *const *spikes, unsigned threads);

/* CRC-32C of all spikes of each of n samples, layer after layer, as artifacts store it with their test vectors: equal
 * on every machine that computes the same. */
BITSPIKE_API bitspike_status bitspike_spike_checksums(const bitspike_network *network, const uint8_t *samples, size_t n,
                                                      uint32_t *checksums, unsigned threads);

/* Runs the stored test vectors and compares logits and spikes. */
BITSPIKE_API bitspike_status bitspike_self_test(const bitspike_network *network);

#ifdef __cplusplus
}
#endif

#endif
