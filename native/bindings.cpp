// The Python module bitspike._native: a thin view of Network. Checking of arguments and naming of errors for
// users happens in bitspike/engine.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <cstring>
#include <memory>

#include "bench/peak.hpp"
#include "dispatch.hpp"
#include "network.hpp"

namespace nb = nanobind;
using bitspike::Bytes;
using bitspike::Graph;
using bitspike::Network;
using bitspike::Node;

namespace {

using Samples = nb::ndarray<const std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Numbers = nb::ndarray<std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Spikes = nb::ndarray<std::uint8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

std::unique_ptr<Network> load(const nb::bytes& file, const std::string& level, std::uint64_t max_memory,
                              const std::vector<std::string>& families) {
  const auto* begin = static_cast<const std::uint8_t*>(file.data());
  std::vector<std::uint8_t> copy(begin, begin + file.size());
  const nb::gil_scoped_release release;
  return std::make_unique<Network>(std::move(copy), bitspike::select_level(level), max_memory,
                                   families);
}

// Rows of `array` must be one per sample and exactly `size` long: the last line of defence before raw pointers.
template <class Array>
void require_rows(const Array& array, std::size_t samples, std::size_t size, const char* name) {
  if (array.shape(0) != samples || array.shape(1) != size) {
    throw std::invalid_argument(std::string(name) + " must have shape (" + std::to_string(samples) + ", " +
                                std::to_string(size) + ")");
  }
}

void run(const Network& network, const Samples& samples, Numbers out, bool steps, unsigned threads) {
  const Graph& graph = network.graph();
  const std::size_t n = samples.shape(0), classes = graph.readout().channels;
  require_rows(samples, n, graph.sample_size(), "samples");
  require_rows(out, n, steps ? classes * graph.time_steps : classes, "out");
  Network::Outputs outputs;
  (steps ? outputs.steps : outputs.logits) = out.data();
  const nb::gil_scoped_release release;
  network.run(samples.data(), n, outputs, threads);
}

std::vector<double> profile(const Network& network, const Samples& samples, unsigned repeats) {
  require_rows(samples, 1, network.graph().sample_size(), "samples");
  const nb::gil_scoped_release release;
  return network.profile(samples.data(), repeats);
}

void trace(const Network& network, const Samples& samples, const std::vector<Spikes>& out) {
  const Graph& graph = network.graph();
  const std::size_t n = samples.shape(0);
  const auto lifs = network.lif_nodes();
  require_rows(samples, n, graph.sample_size(), "samples");
  if (out.size() != lifs.size()) throw std::invalid_argument("one output per Lif is needed");
  Network::Outputs outputs;
  for (std::size_t i = 0; i < lifs.size(); ++i) {
    require_rows(out[i], n, graph.time_steps * graph.nodes[lifs[i]].size(), "out");
    outputs.spikes.push_back(out[i].data());
  }
  const nb::gil_scoped_release release;
  network.run(samples.data(), n, outputs);
}

std::uint32_t self_test(const Network& network) {
  const nb::gil_scoped_release release;
  return network.self_test();
}

template <class T>
nb::bytes raw(const std::vector<T>& values) {
  return nb::bytes(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

nb::object optional_bytes(Bytes bytes, bool present) {
  if (!present) return nb::none();
  return nb::bytes(reinterpret_cast<const char*>(bytes.data), bytes.size);
}

// One node as plain data; on demand its arrays, as the bytes of int32 parameters, int8 weights (see
// Node::unpack_weights) and 0/1 flags.
nb::dict node(const Network& network, std::size_t index, bool arrays) {
  const Node& n = network.graph().nodes.at(index);
  nb::dict d;
  nb::list sources;
  for (std::uint32_t s = 0; s < n.source_count; ++s) sources.append(n.sources[s]);
  d["op"] = bitspike::op_name(n.op);
  d["kind"] = bitspike::kind_name(n.kind);
  d["sources"] = nb::tuple(sources);
  d["shape"] = nb::make_tuple(n.channels, n.height, n.width);
  d["kernel"] = nb::make_tuple(n.kernel_height, n.kernel_width);
  d["stride"] = n.stride;
  d["padding"] = n.padding;
  d["groups"] = n.groups;
  d["bits"] = n.bits;
  d["option"] = n.option;
  d["soft_reset"] = n.soft_reset;
  d["odd"] = n.odd;
  d["kernels"] = bitspike::family_name(network.family(index));
  if (!arrays) return d;
  nb::list params;
  for (const auto& p : n.params) params.append(raw(p));
  d["params"] = params;
  d["weights"] = n.weighted() ? nb::object(raw(n.unpack_weights())) : nb::none();
  d["fits_int16"] = raw(std::vector<std::uint8_t>(n.fits_int16.begin(), n.fits_int16.end()));
  return d;
}

}  // namespace

NB_MODULE(_native, m) {
  nb::exception<bitspike::FormatError>(m, "FormatError");

  m.def("levels", [] {
    std::vector<std::string> names;
    for (const auto* level : bitspike::available_levels()) names.emplace_back(level->name);
    return names;
  });
  m.def("select_level", [](const std::string& name) { return std::string(bitspike::select_level(name).name); });
  m.def("families", &bitspike::family_names);
  m.def("crc32c", [](const nb::bytes& data, std::uint32_t previous) {
    return bitspike::crc32c({static_cast<const std::uint8_t*>(data.data()), data.size()}, previous);
  }, nb::arg("data"), nb::arg("previous") = 0);

  m.def("peak", &bitspike::bench::peak, nb::arg("level"), nb::arg("mix"), nb::call_guard<nb::gil_scoped_release>());
  m.def("peak_mixes", &bitspike::bench::peak_mixes, nb::arg("level"));

  nb::class_<Network>(m, "Network")
      .def(nb::new_(&load), nb::arg("file"), nb::arg("level"), nb::arg("max_memory"), nb::arg("families"))
      .def("run", &run, nb::arg("samples"), nb::arg("out").noconvert(), nb::arg("steps"),
           nb::arg("threads"))
      .def("trace", &trace, nb::arg("samples"), nb::arg("out").noconvert())
      .def("self_test", &self_test)
      .def("profile", &profile, nb::arg("samples"), nb::arg("repeats"))
      .def("node", &node, nb::arg("index"), nb::arg("arrays"))
      .def_prop_ro("node_count", [](const Network& n) { return n.graph().nodes.size(); })
      .def_prop_ro("time_steps", [](const Network& n) { return n.graph().time_steps; })
      .def_prop_ro("level", [](const Network& n) { return std::string(n.kernels().name); })
      .def_prop_ro("artifact_bytes", &Network::artifact_bytes)
      .def_prop_ro("memory_bytes", &Network::memory_bytes)
      .def_prop_ro("test_vectors", [](const Network& n) { return n.graph().test_vectors.count; })
      .def_prop_ro("test_sample", [](const Network& n) {
        const Graph& graph = n.graph();
        return optional_bytes({graph.test_vectors.body.data, graph.sample_size()}, graph.test_vectors.count > 0);
      })
      .def_prop_ro("calib", [](const Network& n) { return optional_bytes(n.graph().calib, n.graph().has_calib); })
      .def_prop_ro("meta", [](const Network& n) { return optional_bytes(n.graph().meta, n.graph().has_meta); });
}
