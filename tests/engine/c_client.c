/* A program that uses the library from C: prints the logits of zero samples, then what errors look like. */
#include <stdio.h>
#include <stdlib.h>

#include "bitspike.h"

int main(int argc, char **argv) {
  bitspike_network *network = NULL;
  bitspike_shape shape;
  uint8_t *sample;
  int32_t *logits;
  uint32_t i;

  if (argc != 2) return 2;
  if (bitspike_load_file(argv[1], NULL, 0, &network) != BITSPIKE_OK) {
    printf("%s\n", bitspike_error());
    return 1;
  }
  bitspike_get_shape(network, &shape);
  sample = calloc((size_t)shape.sample_bytes, 1);
  logits = malloc(shape.classes * sizeof *logits);
  if (!sample || !logits || bitspike_run(network, sample, 1, logits, 2) != BITSPIKE_OK) return 1;
  for (i = 0; i < shape.classes; ++i) printf("%d ", (int)logits[i]);
  printf("\n%d\n", bitspike_run(network, NULL, 1, logits, 1) == BITSPIKE_ERROR_ARGUMENT);
  printf("%s\n", bitspike_error());
  free(logits);
  free(sample);
  bitspike_free(network);
  return 0;
}
