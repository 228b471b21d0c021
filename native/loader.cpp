// Reads the sections of a verified container into a graph, in one pass and node by node: a node is checked
// completely, bounds included, before anything after it is looked at.
#include <algorithm>
#include <cstring>

#include "graph.hpp"

namespace bitspike {
namespace {

constexpr std::uint32_t kMaxDimension = 65535;
constexpr std::uint32_t kMaxSteps = 1024;
constexpr std::uint32_t kMaxNodes = 4096;
constexpr std::uint32_t kMaxMembraneShift = 24;

// The sixteen words of a node record, in order.
struct Record {
  std::uint32_t op;
  std::uint32_t sources[2];
  std::uint32_t channels, height, width;
  std::uint32_t kernel_height, kernel_width, stride, padding, groups;
  std::uint32_t bits;
  std::uint32_t options[2];
  std::uint32_t third_source;  // of an Attention
  std::uint32_t codes;
};
static_assert(sizeof(Record) == 64, "a node record has 16 words");

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
  void read_sources(const Record& record);
  void check_kinds() const;
  void check_unused(const Record& record) const;
  void check_shape();
  void check_options();
  void read_params(std::uint32_t codes);
  std::vector<std::int32_t> read_array(std::uint32_t code);
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
  void in_range(const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) const {
    require(low <= value && value <= high, name, " is ", value, ", accepted: ", low, " to ", high);
  }
  void slides(const char* side, std::uint64_t size, std::uint64_t kernel, std::uint64_t output) const;

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
  if (record.op >= kOps) fail("node ", index, ": operation is ", record.op, ", accepted: 0 to ", kOps - 1);
  Node& n = node();
  n.op = static_cast<Op>(record.op);
  const bool first = index == 0, last = index + 1 == graph_.nodes.size();
  require((n.op == Op::Input) == first && (n.op == Op::Readout) == last,
          "node 0, and only it, is an Input, the last, and only it, a Readout");
  n.channels = record.channels;
  n.height = record.height;
  n.width = record.width;
  n.kernel_height = record.kernel_height;
  n.kernel_width = record.kernel_width;
  n.stride = record.stride;
  n.padding = record.padding;
  n.groups = record.groups;
  n.bits = record.bits;
  n.option = record.options[0];
  n.soft_reset = n.op == Op::Lif && record.options[1] == 1;
  n.odd = n.weighted() && record.options[1] == 1;
  in_range("channels", n.channels, 1, kMaxDimension);
  in_range("height", n.height, 1, kMaxDimension);
  in_range("width", n.width, 1, kMaxDimension);

  read_sources(record);
  check_kinds();
  check_unused(record);
  check_shape();
  check_options();
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

void Loader::read_sources(const Record& record) {
  Node& n = node();
  const auto none = static_cast<std::uint32_t>(-1);
  const bool attention = n.op == Op::Attention;
  const std::uint32_t least = n.op == Op::Input ? 0 : n.op == Op::Add || attention ? 2 : 1;
  const std::uint32_t most = n.op == Op::Lif ? 2 : least;
  const auto add = [&](std::uint32_t s) {
    require(s < index_, "source ", static_cast<std::int32_t>(s), " is not an earlier node");
    used_[s] = 1;
    n.sources[n.source_count++] = s;
  };
  while (n.source_count < 2 && record.sources[n.source_count] != none) add(record.sources[n.source_count]);
  require(least <= n.source_count && n.source_count <= most, n.source_count, " sources, accepted: ", least,
          most > least ? " or 2" : "");
  require(n.source_count == 2 || record.sources[1] == none, "second source is ",
          static_cast<std::int32_t>(record.sources[1]), " without a first one");
  if (attention) {
    add(record.third_source);
  } else {
    require(record.third_source == 0, "third source is ", static_cast<std::int32_t>(record.third_source),
            ", but unused here, accepted: 0");
  }
}

void Loader::check_kinds() const {
  for (std::uint32_t i = 0; i < node().source_count; ++i) {
    const Kind kind = source(i).kind;
    const bool spikes_only = node().op == Op::OrPool || node().op == Op::Attention;
    bool accepted = kind == Kind::Spikes || (kind == Kind::Counts && !spikes_only);
    if (node().op == Op::Conv || node().op == Op::Linear) accepted = accepted || kind == Kind::Input;
    if (node().op == Op::Lif) accepted = accepted || kind == Kind::Current;
    require(accepted, "reads node ", node().sources[i], ", an edge of kind ", kind_name(kind), ", not accepted here");
  }
}

void Loader::check_unused(const Record& r) const {
  const Op op = node().op;
  const bool conv = op == Op::Conv, pool = op == Op::OrPool || op == Op::SumPool;
  const auto zero = [&](bool is_used, const char* name, std::uint32_t value) {
    require(is_used || value == 0, name, " is ", value, ", but unused here, accepted: 0");
  };
  zero(conv || pool, "kernel height", r.kernel_height);
  zero(conv || pool, "kernel width", r.kernel_width);
  zero(conv || pool, "stride", r.stride);
  zero(conv || op == Op::OrPool, "padding", r.padding);
  zero(conv || op == Op::Attention, "groups", r.groups);
  zero(node().weighted() || op == Op::Lif, "bits", r.bits);
  zero(op == Op::Input || op == Op::Lif || op == Op::Readout, "first option", r.options[0]);
  zero(op == Op::Lif || node().weighted(), "second option", r.options[1]);
  require(r.options[1] <= 1, op == Op::Lif ? "soft reset is " : "odd levels are ", r.options[1], ", accepted: 0 or 1");
}

// Checks one side of a sliding window.
void Loader::slides(const char* side, std::uint64_t size, std::uint64_t kernel, std::uint64_t output) const {
  const Node& n = node();
  require(kernel >= 1, "kernel ", side, " is 0, accepted: at least 1");
  require(n.padding < kernel, "padding ", n.padding, " must be smaller than the kernel's ", side, " ", kernel);
  const std::uint64_t padded = size + 2 * std::uint64_t{n.padding};
  require(kernel <= padded, "kernel ", side, " ", kernel, " exceeds the padded source's ", padded);
  const std::uint64_t expected = (padded - kernel) / n.stride + 1;
  require(output == expected, side, " is ", output, ", expected ", expected);
}

void Loader::check_shape() {
  Node& n = node();
  const auto same = [&](const Node& other, bool pixels) {
    require(n.channels == other.channels, "channels are ", n.channels, ", expected ", other.channels);
    if (!pixels) return;
    require(n.height == other.height && n.width == other.width, "output is ", n.height, " x ", n.width, ", expected ",
            other.height, " x ", other.width);
  };
  switch (n.op) {
    case Op::Input:
      n.kind = Kind::Input;
      break;
    case Op::Conv:
      n.kind = Kind::Current;
      in_range("groups", n.groups, 1, kMaxDimension);
      require(source().channels % n.groups == 0 && n.channels % n.groups == 0, "groups ", n.groups,
              " do not divide ", source().channels, " source and ", n.channels, " output channels");
      break;
    case Op::Linear:
    case Op::Readout:
      n.kind = n.op == Op::Linear ? Kind::Current : Kind::Logits;
      require(n.height == 1 && n.width == 1, "output is ", n.height, " x ", n.width, ", expected 1 x 1");
      break;
    case Op::Lif:
    case Op::Add:
      n.kind = n.op == Op::Lif ? Kind::Spikes : Kind::Counts;
      for (std::uint32_t i = 0; i < n.source_count; ++i) same(source(i), true);
      break;
    case Op::OrPool:
    case Op::SumPool:
      n.kind = n.op == Op::OrPool ? Kind::Spikes : Kind::Counts;
      require(n.kernel_height == n.kernel_width, "kernel ", n.kernel_height, " x ", n.kernel_width, " is not square");
      same(source(), false);
      break;
    case Op::Attention: {
      n.kind = Kind::Current;
      const Node &query = source(0), &key = source(1), &value = source(2);
      require(query.channels == key.channels, "query has ", query.channels, " channels, key ", key.channels,
              ", accepted: equal numbers");
      require(key.height == value.height && key.width == value.width, "key is ", key.height, " x ", key.width,
              ", value ", value.height, " x ", value.width, ", accepted: equal sizes");
      in_range("heads", n.groups, 1, kMaxDimension);
      require(key.channels % n.groups == 0 && value.channels % n.groups == 0, "heads ", n.groups, " do not divide ",
              key.channels, " key and ", value.channels, " value channels");
      require(n.channels == value.channels, "channels are ", n.channels, ", expected ", value.channels);
      require(n.height == query.height && n.width == query.width, "output is ", n.height, " x ", n.width,
              ", expected ", query.height, " x ", query.width);
      break;
    }
  }
  if (n.op == Op::Conv || n.op == Op::OrPool || n.op == Op::SumPool) {
    require(n.stride >= 1, "stride is 0, accepted: at least 1");
    slides("height", source().height, n.kernel_height, n.height);
    slides("width", source().width, n.kernel_width, n.width);
  }
}

void Loader::check_options() {
  const Node& n = node();
  if (n.weighted()) in_range("weight bits", n.bits, n.odd ? 2 : 1, 8);
  if (n.op == Op::Lif) in_range("membrane bits", n.bits, 2, 16);
  if (n.op == Op::Lif) in_range("leak shift", n.option, 0, 15);
  if (n.op == Op::Readout) in_range("pool", n.option, 0, 1);
  if (n.op == Op::Input) {
    require(n.option == 1 || n.option == graph_.time_steps, "frames are ", n.option, ", accepted: 1 or ",
            graph_.time_steps);
  }
}

void Loader::read_params(std::uint32_t codes) {
  Node& n = node();
  const std::uint32_t count = n.op == Op::Lif ? n.source_count + 3 : n.op == Op::Input || n.op == Op::Readout;
  require((std::uint64_t{codes} >> (4 * count)) == 0, "width codes are ", codes, " for ", count, " arrays");
  n.params = std::vector<std::vector<std::int32_t>>(count);
  for (std::uint32_t i = 0; i < count; ++i) n.params[i] = read_array((codes >> (4 * i)) & 15);
  if (n.op == Op::Input) {
    for (const std::int32_t z : n.params[0]) require(0 <= z && z <= 255, "zero point ", z, ", accepted: 0 to 255");
  }
  if (n.op == Op::Lif) {
    for (const std::int32_t k : n.params.back()) {
      require(0 <= k && k <= std::int32_t{kMaxMembraneShift}, "membrane shift ", k, ", accepted: 0 to ",
              kMaxMembraneShift);
    }
  }
}

std::vector<std::int32_t> Loader::read_array(std::uint32_t code) {
  require(code == 0 || code == 1 || code == 2 || code == 4, "width code is ", code, ", accepted: 0, 1, 2 or 4");
  const std::uint32_t channels = node().channels;
  const std::uint64_t size = code == 0 ? 4 : std::uint64_t{channels} * code;
  const Bytes bytes = params_.take(size, "parameters");
  params_.zeros(padding(size, 4), "padding");
  budget_.charge(std::uint64_t{channels} * sizeof(std::int32_t), "parameters", &graph_, index_);
  std::vector<std::int32_t> values(channels);
  if (code == 0) {
    std::int32_t value;
    std::memcpy(&value, bytes.data, sizeof value);
    std::fill(values.begin(), values.end(), value);
    return values;
  }
  for (std::uint32_t c = 0; c < channels; ++c) {
    std::uint32_t raw = 0;
    std::memcpy(&raw, bytes.data + std::uint64_t{c} * code, code);
    const std::uint32_t sign = 1u << (8 * code - 1);
    values[c] = static_cast<std::int32_t>((raw ^ sign) - sign);
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
