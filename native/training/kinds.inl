// The kernels of every kind of neuron with a leak, in the order of Kind and Surrogate. Included by kernels.inl.

template <class T, template <class> class S>
constexpr std::array<ScanBlock, kKinds> backward_kinds() {
  return {{backward_block<T, Binary, S, true>, backward_block<T, Binary, S, false>, backward_block<T, Ternary, S, true>,
           backward_block<T, Ternary, S, false>, backward_block<T, Integer, S, false>,
           backward_block<T, Reaching, S, true>, backward_block<T, Reaching, S, false>,
           backward_adaptive_block<T, S, true>, backward_adaptive_block<T, S, false>}};
}

template <class T>
constexpr ScanKernels scan_kernels() {
  return {{{forward_block<T, Binary, NoSurrogate, true>, forward_block<T, Binary, NoSurrogate, false>,
            forward_block<T, Ternary, NoSurrogate, true>, forward_block<T, Ternary, NoSurrogate, false>,
            forward_block<T, Integer, NoSurrogate, false>, forward_block<T, Reaching, NoSurrogate, true>,
            forward_block<T, Reaching, NoSurrogate, false>, forward_adaptive_block<T, true>,
            forward_adaptive_block<T, false>}},
          {{backward_kinds<T, Triangle>(), backward_kinds<T, Sigmoid>(), backward_kinds<T, ATan>(),
            backward_kinds<T, Rectangle>()}}};
}
