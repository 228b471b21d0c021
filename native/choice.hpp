// Which family of kernels computes each Conv and Linear that reads spikes. All families give the same bits, so this
// is a question of time only.
#pragma once

#include <string>
#include <vector>

#include "events.hpp"
#include "graph.hpp"
#include "kernels.hpp"
#include "prepare.hpp"
#include "tables.hpp"

namespace bitspike {

// Planes: AND and population count, once per bit of the weights. Events: rows of weights are added for each spike.
// Tables: spikes look up sums of weights. Weights beyond 8 bits, odd levels up to 255, have planes only. None: the node
// reads no spikes, has groups, or is no Conv or Linear.
enum class Family { None, Planes, Events, Tables };

std::vector<std::string> family_names();  // those that can be asked for
const char* family_name(Family family);

// The families to use, by node. `wanted` has one name per node, or one for all, or is empty: "" leaves the choice to
// the estimate, and so does a family that cannot compute the node. std::invalid_argument for an unknown name or number.
std::vector<Family> choose_families(const Graph& graph, const std::vector<Edge>& edges, const Kernels& kernels,
                                    const std::vector<std::string>& wanted);

// Weights of a node whose family is Events or Tables.
struct SpikeLayer {
  EventPlan events;
  AlignedBuffer event_weights;
  TableLayer table;
};

SpikeLayer prepare_spike_layer(const Graph& graph, std::size_t index, const Edge& source, Family family,
                               const Kernels& kernels, Budget& budget);

}  // namespace bitspike
