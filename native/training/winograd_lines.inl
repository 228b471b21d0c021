// The matrices of F(4x4, 3x3) times a line of numbers, and times a square from both sides. Included by kernels.inl.

struct InputLine {  // B'
  static constexpr std::size_t in = 6, out = 6;
  template <class V>
  static void apply(const V* d, V* to) {
    const V even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1], near = d[4] - d[2], far = 2 * (d[3] - d[1]);
    to[0] = 4 * (d[0] - d[2]) + near;
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = near + far;
    to[4] = near - far;
    to[5] = 4 * (d[1] - d[3]) + (d[5] - d[3]);
  }
};

struct WeightLine {  // G
  static constexpr std::size_t in = 3, out = 6;
  template <class V>
  static void apply(const V* w, V* to) {
    const V ends = (w[0] + w[2]) * Number<V>(-1. / 6), middle = w[1] * Number<V>(1. / 6);
    const V far = w[0] * Number<V>(1. / 24) + w[2] * Number<V>(1. / 6), between = w[1] * Number<V>(1. / 12);
    to[0] = w[0] * Number<V>(.25);
    to[1] = ends - middle;
    to[2] = ends + middle;
    to[3] = far + between;
    to[4] = far - between;
    to[5] = w[2];
  }
};

struct OutputLine {  // A'
  static constexpr std::size_t in = 6, out = 4;
  template <class V>
  static void apply(const V* m, V* to) {
    const V near = m[1] + m[2], near_odd = m[1] - m[2], far = m[3] + m[4], far_odd = m[3] - m[4];
    to[0] = m[0] + near + far;
    to[1] = near_odd + 2 * far_odd;
    to[2] = near + 4 * far;
    to[3] = near_odd + 8 * far_odd + m[5];
  }
};

struct OutputAdjoint {  // A
  static constexpr std::size_t in = 4, out = 6;
  template <class V>
  static void apply(const V* g, V* to) {
    const V even = g[0] + g[2], odd = g[1] + g[3], far = g[0] + 4 * g[2], far_odd = 2 * g[1] + 8 * g[3];
    to[0] = g[0];
    to[1] = even + odd;
    to[2] = even - odd;
    to[3] = far + far_odd;
    to[4] = far - far_odd;
    to[5] = g[3];
  }
};

struct WeightAdjoint {  // G'
  static constexpr std::size_t in = 6, out = 3;
  template <class V>
  static void apply(const V* u, V* to) {
    const V near = (u[1] + u[2]) * Number<V>(-1. / 6), far = u[3] + u[4];
    to[0] = u[0] * Number<V>(.25) + near + far * Number<V>(1. / 24);
    to[1] = (u[2] - u[1]) * Number<V>(1. / 6) + (u[3] - u[4]) * Number<V>(1. / 12);
    to[2] = near + far * Number<V>(1. / 6) + u[5];
  }
};

// to(i, j, number) for every number of matrix * square * transposed matrix, where from(i, j) gives the square's.
template <class Line, class V, class From, class To>
inline void both_sides(const From& from, const To& to) {
  V half[Line::out][Line::in];
  for (std::size_t j = 0; j < Line::in; ++j) {
    V column[Line::in], made[Line::out];
    for (std::size_t i = 0; i < Line::in; ++i) column[i] = from(i, j);
    Line::apply(column, made);
    for (std::size_t i = 0; i < Line::out; ++i) half[i][j] = made[i];
  }
  for (std::size_t i = 0; i < Line::out; ++i) {
    V made[Line::out];
    Line::apply(half[i], made);
    for (std::size_t j = 0; j < Line::out; ++j) to(i, j, made[j]);
  }
}
