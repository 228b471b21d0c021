#include "rules.hpp"

#include <algorithm>

namespace bitspike {
namespace {

constexpr std::uint32_t kNoSource = static_cast<std::uint32_t>(-1);

// Words of a record that only some operations use.
enum Word : std::uint8_t { kWindow = 1, kPadding = 2, kGroups = 4, kBits = 8, kOption = 16, kSecond = 32 };

constexpr std::uint8_t bit(Kind kind) { return static_cast<std::uint8_t>(1u << static_cast<int>(kind)); }
constexpr std::uint8_t kSpikes = bit(Kind::Spikes), kCounts = kSpikes | bit(Kind::Counts);
constexpr std::uint8_t kSamples = kCounts | bit(Kind::Input), kStream = bit(Kind::Stream);
constexpr std::uint8_t kSums = kCounts | bit(Kind::Current);

// How many sources of which kinds an operation has, which words it uses, and the kind it gives.
struct Rule {
  std::uint8_t least, most, kinds, words;
  Kind gives;
};
constexpr Rule kRules[kOps] = {
    {0, 0, 0, kOption, Kind::Input},                                            // Input
    {1, 1, kSamples, kWindow | kPadding | kGroups | kBits | kSecond, Kind::Current},  // Conv
    {1, 1, kSamples, kBits | kSecond, Kind::Current},                           // Linear
    {1, 2, kSums | kStream, kBits | kOption | kSecond, Kind::Spikes},           // Lif
    {1, 1, kSpikes, kWindow | kPadding, Kind::Spikes},                          // OrPool
    {1, 1, kCounts | kStream, kWindow, Kind::Counts},                           // SumPool, of a stream: Current
    {2, 2, kCounts, 0, Kind::Counts},                                           // Add
    {1, 1, kCounts | kStream, kBits | kOption | kSecond, Kind::Logits},         // Readout
    {3, 3, kSpikes, kGroups, Kind::Current},                                    // Attention
    {1, 4, kSums | kSamples | kStream, kBits | kOption | kSecond, Kind::Stream},  // Stream
    {1, 1, kStream, kWindow | kPadding, Kind::Stream},                          // MaxPool
    {1, 1, kSpikes | kStream, kGroups | kOption, Kind::Current},                // Reduce
    {2, 2, kSpikes, 0, Kind::Spikes},                                           // Gate
    {2, 2, kSpikes, kGroups | kOption, Kind::Current},                          // MatMul
    {2, 4, kSpikes | kStream, kSecond, Kind::Spikes},                           // Concat: the kind of its sources
    {1, 1, kSums | kStream, 0, Kind::Spikes},                                   // Mix
    {2, 2, kSums, 0, Kind::Current},                                            // Product
};

class Checker {
 public:
  Checker(Graph& graph, std::size_t index, const Record& record)
      : graph_(graph), index_(index), record_(record), node_(graph.nodes[index]) {}

  void sources(std::vector<std::uint8_t>& used);
  void words() const;
  void shape();
  void options() const;

 private:
  const Rule& rule() const { return kRules[static_cast<std::uint32_t>(node_.op)]; }
  bool many_sources() const { return rule().most == kMaxSources; }
  const Node& source(int i = 0) const { return graph_.nodes[node_.sources[i]]; }
  template <class... T>
  [[gnu::always_inline]] void require(bool condition, const T&... parts) const {
    if (!condition) fail_at(graph_, index_, parts...);
  }
  void in_range(const char* name, std::uint64_t value, std::uint64_t low, std::uint64_t high) const {
    require(low <= value && value <= high, name, " is ", value, ", accepted: ", low, " to ", high);
  }
  void channels_are(std::uint64_t channels) const {
    require(node_.channels == channels, "channels are ", node_.channels, ", expected ", channels);
  }
  void pixels_are(std::uint32_t height, std::uint32_t width) const {
    require(node_.height == height && node_.width == width, "output is ", node_.height, " x ", node_.width,
            ", expected ", height, " x ", width);
  }
  void same(const Node& other) const {
    channels_are(other.channels);
    pixels_are(other.height, other.width);
  }
  void same_pixels(const char* left, const Node& a, const char* right, const Node& b) const {
    require(a.height == b.height && a.width == b.width, left, " is ", a.height, " x ", a.width, ", ", right, " ",
            b.height, " x ", b.width, ", accepted: equal sizes");
  }
  void heads_divide(const Node& a, const Node& b) const {
    in_range("heads", node_.groups, 1, kMaxDimension);
    require(a.channels % node_.groups == 0 && b.channels % node_.groups == 0, "heads ", node_.groups,
            " do not divide ", a.channels, " and ", b.channels, " channels");
  }
  void slides(const char* side, std::uint64_t size, std::uint64_t kernel, std::uint64_t output) const;
  void attention() const;
  void matmul() const;
  void reduce() const;

  Graph& graph_;
  const std::size_t index_;
  const Record& record_;
  Node& node_;
};

void Checker::sources(std::vector<std::uint8_t>& used) {
  const std::uint32_t words[kMaxSources] = {record_.sources[0], record_.sources[1], record_.third_source,
                                            record_.options[1]};
  // Words beyond those of sources mean something else, or nothing.
  const std::uint32_t places = std::max<std::uint32_t>(rule().most, 2);
  bool ended = false;
  for (std::uint32_t i = 0; i < places; ++i) {
    const std::uint32_t s = words[i];
    if (s == kNoSource) {
      ended = true;
      continue;
    }
    require(!ended, i == 1 ? "second" : i == 2 ? "third" : "fourth", " source is ", static_cast<std::int32_t>(s),
            i == 1 ? " without a first one" : " without the one before it");
    require(s < index_, "source ", static_cast<std::int32_t>(s), " is not an earlier node");
    node_.sources[node_.source_count++] = s;
    used[s] = 1;
  }
  const Rule& r = rule();
  require(r.least <= node_.source_count && node_.source_count <= r.most, node_.source_count, " sources, accepted: ",
          std::uint32_t{r.least}, r.most == r.least ? "" : r.most == 2 ? " or 2" : " to 4");
  require(r.most > 2 || record_.third_source == 0, "third source is ", static_cast<std::int32_t>(record_.third_source),
          ", but unused here, accepted: 0");
  for (std::uint32_t i = 0; i < node_.source_count; ++i) {
    const Kind kind = source(static_cast<int>(i)).kind;
    require(r.kinds & bit(kind), "reads node ", node_.sources[i], ", an edge of kind ", kind_name(kind),
            ", not accepted here");
  }
}

void Checker::words() const {
  const auto zero = [&](std::uint8_t word, const char* name, std::uint32_t value) {
    require((rule().words & word) || value == 0, name, " is ", value, ", but unused here, accepted: 0");
  };
  const Record& r = record_;
  zero(kWindow, "kernel height", r.kernel_height);
  zero(kWindow, "kernel width", r.kernel_width);
  zero(kWindow, "stride", r.stride);
  zero(kPadding, "padding", r.padding);
  zero(kGroups, "groups", r.groups);
  zero(kBits, "bits", r.bits);
  zero(kOption, "first option", r.options[0]);
  zero(kSecond, "second option", r.options[1]);
  require(many_sources() || r.options[1] <= 1, node_.op == Op::Lif ? "soft reset is " : "odd levels are ", r.options[1],
          ", accepted: 0 or 1");
}

// Checks one side of a sliding window.
void Checker::slides(const char* side, std::uint64_t size, std::uint64_t kernel, std::uint64_t output) const {
  require(kernel >= 1, "kernel ", side, " is 0, accepted: at least 1");
  require(node_.padding < kernel, "padding ", node_.padding, " must be smaller than the kernel's ", side, " ", kernel);
  const std::uint64_t padded = size + 2 * std::uint64_t{node_.padding};
  require(kernel <= padded, "kernel ", side, " ", kernel, " exceeds the padded source's ", padded);
  const std::uint64_t expected = (padded - kernel) / node_.stride + 1;
  require(output == expected, side, " is ", output, ", expected ", expected);
}

void Checker::attention() const {
  const Node &query = source(0), &key = source(1), &value = source(2);
  require(query.channels == key.channels, "query has ", query.channels, " channels, key ", key.channels,
          ", accepted: equal numbers");
  same_pixels("key", key, "value", value);
  heads_divide(key, value);
  channels_are(value.channels);
  pixels_are(query.height, query.width);
}

void Checker::matmul() const {
  const Node &left = source(0), &right = source(1);
  heads_divide(left, right);
  in_range("transposed operand", node_.option, kNone, kRight);
  const std::uint64_t heads = node_.groups, rows = left.channels / heads, other_rows = right.channels / heads;
  const std::uint64_t inner = node_.option == kLeft ? rows : left.pixels();
  const std::uint64_t other = node_.option == kRight ? right.pixels() : other_rows;
  require(inner == other, "sums over ", inner, " of the left and ", other, " of the right operand, accepted: equal numbers");
  channels_are(heads * (node_.option == kLeft ? left.pixels() : rows));
  if (node_.option == kRight) {
    pixels_are(static_cast<std::uint32_t>(other_rows), 1);
  } else {
    pixels_are(right.height, right.width);
  }
}

void Checker::reduce() const {
  const Node& from = source();
  in_range("axis", node_.option, kOverChannels, kOverBoth);
  heads_divide(from, from);
  const bool channels = node_.option != kOverTokens;
  require(channels || node_.groups == 1, "heads are ", node_.groups, " of sums over tokens, accepted: 1");
  require(!channels || from.kind == Kind::Spikes, "sums over channels read a stream, accepted: spikes");
  channels_are(channels ? node_.groups : from.channels);
  node_.option == kOverChannels ? pixels_are(from.height, from.width) : pixels_are(1, 1);
}

void Checker::shape() {
  const auto each = [&](auto check) {
    for (std::uint32_t i = 0; i < node_.source_count; ++i) check(source(static_cast<int>(i)));
  };
  node_.kind = rule().gives;
  switch (node_.op) {
    case Op::Input:
      break;
    case Op::Conv:
      in_range("groups", node_.groups, 1, kMaxDimension);
      require(source().channels % node_.groups == 0 && node_.channels % node_.groups == 0, "groups ", node_.groups,
              " do not divide ", source().channels, " source and ", node_.channels, " output channels");
      break;
    case Op::Linear:
    case Op::Readout:
      pixels_are(1, 1);
      break;
    case Op::Lif:
    case Op::Add:
    case Op::Stream:
    case Op::Mix:
      each([&](const Node& from) { same(from); });
      break;
    case Op::SumPool:
      if (source().kind == Kind::Stream) node_.kind = Kind::Current;
      [[fallthrough]];
    case Op::OrPool:
    case Op::MaxPool:
      require(node_.kernel_height == node_.kernel_width, "kernel ", node_.kernel_height, " x ", node_.kernel_width,
              " is not square");
      channels_are(source().channels);
      break;
    case Op::Attention:
      attention();
      break;
    case Op::MatMul:
      matmul();
      break;
    case Op::Reduce:
      reduce();
      break;
    case Op::Gate:
    case Op::Product: {
      const Node &from = source(0), &gate = source(1);
      const bool one_pixel = gate.pixels() == 1;
      require(node_.op == Op::Gate ? from.channels % gate.channels == 0 : from.channels == gate.channels, gate.channels,
              " channels of the second source for ", from.channels, " of the first");
      if (!one_pixel) same_pixels("source", from, "gate", gate);
      require(one_pixel || node_.op == Op::Gate, "second source is ", gate.height, " x ", gate.width,
              ", accepted: 1 x 1");
      same(from);
      break;
    }
    case Op::Concat: {
      std::uint64_t channels = 0;
      node_.kind = source().kind;
      each([&](const Node& from) {
        require(from.kind == node_.kind, "joins ", kind_name(node_.kind), " and ", kind_name(from.kind),
                ", accepted: one kind");
        pixels_are(from.height, from.width);
        channels += from.channels;
      });
      channels_are(channels);
      break;
    }
  }
  if (rule().words & kWindow) {
    require(node_.stride >= 1, "stride is 0, accepted: at least 1");
    slides("height", source().height, node_.kernel_height, node_.height);
    slides("width", source().width, node_.kernel_width, node_.width);
  }
}

void Checker::options() const {
  const std::uint32_t steps = graph_.time_steps;
  if (node_.weighted()) in_range("weight bits", node_.bits, node_.odd ? 2 : 1, 8);
  if (node_.op == Op::Lif) in_range("membrane bits", node_.bits, 2, 16);
  if (node_.op == Op::Lif) in_range("leak shift", node_.option, 0, 15);
  if (node_.op == Op::Stream) in_range("stream bits", node_.bits, 2, 24);
  if (node_.op == Op::Readout) in_range("pool", node_.option, 0, 1);
  if (node_.op == Op::Input || node_.op == Op::Stream) {
    require(node_.option == 1 || node_.option == steps,
            node_.op == Op::Input ? "frames are " : "steps with multipliers are ", node_.option, ", accepted: 1 or ",
            steps);
  }
}

}  // namespace

void read_record(Graph& graph, std::size_t index, const Record& record, std::vector<std::uint8_t>& used) {
  if (record.op >= kOps) fail("node ", index, ": operation is ", record.op, ", accepted: 0 to ", kOps - 1);
  Node& n = graph.nodes[index];
  n.op = static_cast<Op>(record.op);
  const bool first = index == 0, last = index + 1 == graph.nodes.size();
  if ((n.op == Op::Input) != first || (n.op == Op::Readout) != last) {
    fail_at(graph, index, "node 0, and only it, is an Input, the last, and only it, a Readout");
  }
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
  const auto dimension = [&](const char* name, std::uint32_t value) {
    if (value < 1 || value > kMaxDimension) {
      fail_at(graph, index, name, " is ", value, ", accepted: 1 to ", kMaxDimension);
    }
  };
  dimension("channels", n.channels);
  dimension("height", n.height);
  dimension("width", n.width);
  Checker checker(graph, index, record);
  checker.sources(used);
  checker.words();
  checker.shape();
  checker.options();
}

}  // namespace bitspike
