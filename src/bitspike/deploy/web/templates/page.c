/* What the page calls: one sample buffer, its logits, and the spikes of every layer of the last traced run.
   PAGE_SPIKES: bytes of all layers together; PAGE_OFFSETS: where each layer starts, and the end (LAYERS + 1 numbers). */
#include "network.h"

#define EXPORT(name) __attribute__((export_name(#name))) name

static uint8_t sample_bytes[network_INPUT_SIZE];
static int32_t logit_values[network_CLASSES];
static uint8_t spike_bytes[PAGE_SPIKES];
static const uint32_t offsets[] = {PAGE_OFFSETS};
static int tracing; /* off while inferences are timed */

uint8_t *EXPORT(sample)(void) { return sample_bytes; }
int32_t *EXPORT(logits)(void) { return logit_values; }
uint8_t *EXPORT(spikes)(void) { return spike_bytes; }
int EXPORT(self_test)(void) { return network_self_test(); }

void network_spikes(uint32_t layer, const uint8_t *spikes) {
  if (tracing) __builtin_memcpy(spike_bytes + offsets[layer], spikes, offsets[layer + 1] - offsets[layer]);
}

void EXPORT(trace)(void) {
  tracing = 1;
  network_run(sample_bytes, logit_values);
  tracing = 0;
}

void EXPORT(repeat)(uint32_t times) {
  for (uint32_t i = 0; i < times; i++) network_run(sample_bytes, logit_values);
}
