// Reads the sections of a verified container into a graph, in one pass and node by node: a node is checked
// completely, bounds included, before anything after it is looked at.
#include <algorithm>
#include <cstring>

#include "graph.hpp"
#include "rules.hpp"

namespace bitspike {
namespace {

constexpr std::uint32_t kMaxSteps = 1024;
constexpr std::uint32_t kMaxNodes = 4096;
constexpr std::int32_t kMaxMembraneShift = 24, kMaxStreamShift = 30;

class Loader {
 public:
  Loader(Bytes file, Budget& budget)
      : sections_(parse_sections(file)),
        records_(sections_[Section::Graph], "GRAPH"),
        params_(sections_[Section::Params], "PARAMS"),
        weights_(sections_[Section::Weights], "WEIGHTS"),
        budget_(budget) {}

  Graph load();

 private:
  void read_node(std::uint32_t index);
  void read_params(std::uint32_t codes);
  std::vector<std::int32_t> read_array(std::uint32_t code, std::uint64_t count);
  void check_array(const std::vector<std::int32_t>& values, const char* name, std::int32_t most) const;
  void check_triangle(const std::vector<std::int32_t>& weight) const;
  std::vector<std::int8_t> read_weights();
  void read_optional();

  const Node& source(int i = 0) const { return graph_.nodes[node().sources[i]]; }
  Node& node() { return graph_.nodes[index_]; }
  const Node& node() const { return graph_.nodes[index_]; }
  template <class... T>
  [[gnu::always_inline]] void require(bool condition, const T&... parts) const {
    if (!condition) fail_at(graph_, index_, parts...);
  }
  std::uint64_t product(std::uint64_t a, std::uint64_t b) const {
    require(a == 0 || b <= UINT64_MAX / a, a, " x ", b, " does not fit in 64 bits");
    return a * b;
  }

  Sections sections_;
  Cursor records_, params_, weights_;
  Budget& budget_;
  Graph graph_;
  std::vector<Range> ranges_;
  std::uint64_t range_bytes_ = 0;  // charged while loading only
  std::vector<std::uint8_t> used_;  // flags
  std::size_t index_ = 0;
};

Graph Loader::load() {
  graph_.time_steps = records_.u32("time steps");
  if (graph_.time_steps < 1 || graph_.time_steps > kMaxSteps) {
    fail("GRAPH: time steps are ", graph_.time_steps, ", accepted: 1 to ", kMaxSteps);
  }
  const std::uint32_t count = records_.u32("number of nodes");
  if (count < 2 || count > kMaxNodes) fail("GRAPH: number of nodes is ", count, ", accepted: 2 to ", kMaxNodes);
  if (records_.left() != count * sizeof(Record)) {
    fail("GRAPH: ", count, " nodes need ", count * sizeof(Record), " bytes, the section has ", records_.left());
  }
  graph_.nodes = std::vector<Node>(count);
  ranges_ = std::vector<Range>(count);
  used_ = std::vector<std::uint8_t>(count);
  for (std::uint32_t i = 0; i < count; ++i) read_node(i);
  for (index_ = 0; index_ + 1 < count; ++index_) require(used_[index_], "no later node reads it");
  params_.finish();
  weights_.finish();
  read_optional();
  budget_.release(range_bytes_);
  return std::move(graph_);
}

void Loader::read_node(std::uint32_t index) {
  index_ = index;
  Record record;
  std::memcpy(&record, records_.take(sizeof record, "node record").data, sizeof record);
  read_record(graph_, index, record, used_);
  const Node& n = node();
  if (n.kind != Kind::Spikes && n.kind != Kind::Logits) {
    const std::uint64_t bytes = std::uint64_t{n.channels} * 2 * sizeof(std::int32_t);
    budget_.charge(bytes, "value ranges", &graph_, index);
    range_bytes_ += bytes;
  }
  read_params(record.codes);
  const std::vector<std::int8_t> weights = read_weights();
  ranges_[index] = prove_range(graph_, index, ranges_, weights);
  budget_.release(weights.size());
}

void Loader::read_params(std::uint32_t codes) {
  Node& n = node();
  const std::uint64_t channels = n.channels, steps = graph_.time_steps;
  std::uint32_t count = 0, multipliers = 0;
  switch (n.op) {
    case Op::Lif:
      multipliers = n.source_count;
      count = multipliers + 3;
      break;
    case Op::Stream:
      multipliers = n.source_count;
      count = multipliers + 2;
      break;
    case Op::Mix:
      count = 2;
      break;
    default:
      count = n.op == Op::Input || n.op == Op::Readout;
  }
  require((std::uint64_t{codes} >> (4 * count)) == 0, "width codes are ", codes, " for ", count, " arrays");
  n.params = std::vector<std::vector<std::int32_t>>(count);
  for (std::uint32_t i = 0; i < count; ++i) {
    std::uint64_t size = channels;
    if (n.op == Op::Stream && i < multipliers) size = channels * n.option;
    if (n.op == Op::Mix) size = i == 0 ? steps * steps : steps;
    n.params[i] = read_array((codes >> (4 * i)) & 15, size);
  }
  if (n.op == Op::Input) check_array(n.params[0], "zero point ", 255);
  if (n.op == Op::Lif) check_array(n.params.back(), "membrane shift ", kMaxMembraneShift);
  if (n.op == Op::Stream) check_array(n.params.back(), "shift ", kMaxStreamShift);
  if (n.op == Op::Mix) check_triangle(n.params[0]);
}

void Loader::check_array(const std::vector<std::int32_t>& values, const char* name, std::int32_t most) const {
  for (const std::int32_t value : values) {
    require(0 <= value && value <= most, name, value, ", accepted: 0 to ", most);
  }
}

// A step sees nothing of later ones.
void Loader::check_triangle(const std::vector<std::int32_t>& weight) const {
  const std::uint32_t steps = graph_.time_steps;
  for (std::uint32_t t = 0; t < steps; ++t) {
    for (std::uint32_t later = t + 1; later < steps; ++later) {
      const std::int32_t value = weight[t * steps + later];
      require(value == 0, "weight of step ", later, " in row ", t, " is ", value, ", accepted: 0");
    }
  }
}

std::vector<std::int32_t> Loader::read_array(std::uint32_t code, std::uint64_t count) {
  require(code == 0 || code == 1 || code == 2 || code == 4, "width code is ", code, ", accepted: 0, 1, 2 or 4");
  const std::uint64_t size = code == 0 ? 4 : count * code;
  const Bytes bytes = params_.take(size, "parameters");
  params_.zeros(padding(size, 4), "padding");
  budget_.charge(count * sizeof(std::int32_t), "parameters", &graph_, index_);
  std::vector<std::int32_t> values(count);
  if (code == 0) {
    std::int32_t value;
    std::memcpy(&value, bytes.data, sizeof value);
    std::fill(values.begin(), values.end(), value);
    return values;
  }
  for (std::uint64_t i = 0; i < count; ++i) {
    std::uint32_t raw = 0;
    std::memcpy(&raw, bytes.data + i * code, code);
    const std::uint32_t sign = 1u << (8 * code - 1);
    values[i] = static_cast<std::int32_t>((raw ^ sign) - sign);
  }
  return values;
}

std::vector<std::int8_t> Loader::read_weights() {
  Node& n = node();
  if (!n.weighted()) return {};
  if (n.op == Op::Conv) {
    n.weight_inputs = product(source().channels / n.groups, product(n.kernel_height, n.kernel_width));
  } else {
    n.weight_inputs = n.op == Op::Readout && n.option == 1 ? source().channels : source().size();
  }
  const std::uint64_t count = product(n.weight_inputs, n.channels);
  const std::uint64_t size = (product(count, n.bits) - 1) / 8 + 1;
  n.packed_weights = weights_.take(size, "weights");
  weights_.zeros(padding(size, 4), "padding");
  const auto tail = static_cast<std::uint32_t>(count * n.bits % 8);
  require(tail == 0 || n.packed_weights.data[size - 1] >> tail == 0, "padding bits after the weights are not zero");

  budget_.charge(count, "weights", &graph_, index_);
  std::vector<std::int8_t> weights = n.unpack_weights();
  if (!n.odd_levels()) {
    const int lowest = -(1 << (n.bits - 1));
    const bool found = std::find(weights.begin(), weights.end(), lowest) != weights.end();
    require(!found, n.bits, "-bit weight ", lowest, ", accepted: ", lowest + 1, " to ", -lowest - 1);
  }
  return weights;
}

void Loader::read_optional() {
  graph_.calib = sections_[Section::Calib];
  graph_.has_calib = sections_.has(Section::Calib);
  graph_.meta = sections_[Section::Meta];
  graph_.has_meta = sections_.has(Section::Meta);
  const std::uint64_t rates = graph_.nodes.size() * sizeof(float);
  if (graph_.has_calib && graph_.calib.size != rates) {
    fail("CALIB: ", graph_.calib.size, " bytes, expected ", rates, ", one f32 per node");
  }
  if (!sections_.has(Section::TestVectors)) return;
  Cursor cursor(sections_[Section::TestVectors], "TESTVEC");
  const std::uint32_t count = cursor.u32("number of samples");
  const std::uint64_t sample = graph_.sample_size();
  const std::uint64_t outputs = (std::uint64_t{graph_.readout().channels} + 1) * 4;
  const std::uint64_t record = sample + padding(sample, 4) + outputs;
  if (cursor.left() / record < count) {
    fail("TESTVEC: ", count, " samples of ", record, " bytes each, the section has ", cursor.left());
  }
  graph_.test_vectors.count = count;
  graph_.test_vectors.body = cursor.take(count * record, "samples");
  cursor.finish();
  for (std::uint32_t i = 0; i < count; ++i) {
    const Bytes tail{graph_.test_vectors.body.data + i * record + sample, padding(sample, 4)};
    Cursor(tail, "TESTVEC").zeros(tail.size, "padding");
  }
}

}  // namespace

Graph load_graph(Bytes file, Budget& budget) { return Loader(file, budget).load(); }

}  // namespace bitspike
