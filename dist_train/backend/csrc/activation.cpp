#include "elementary.h"
#include "activation.h"

namespace DT_ISA {

static constexpr Index grain = 32768;

// Each function has a value and a gradient: (gradient of y, x or y) → gradient of x.

template <class T>
struct Relu {
  Relu(double, double) {}
  T value(T x) const { return x > 0 || x != x ? x : T(0); }
  T gradient(T g, T y) const { return g * T(y > 0); }
};

template <class T>
struct Clip {
  T low, high;
  Clip(double low, double high) : low(T(low)), high(T(high)) {}
  T value(T x) const { return clamp(x, low, high); }
  T gradient(T g, T x) const { return g * T((x > low) & (x < high)); }
};

template <class T>
struct LeakyRelu {
  T slope;
  LeakyRelu(double slope, double) : slope(T(slope)) {}
  T value(T x) const { return x > 0 ? x : x * slope; }
  T gradient(T g, T x) const { return x > 0 ? g : g * slope; }
};

template <class T>
struct Elu {
  T alpha;
  Elu(double alpha, double) : alpha(T(alpha)) {}
  T value(T x) const { return x > 0 ? x : alpha * expm1_of_negative(negative_part(x)); }
  T gradient(T g, T x) const { return g * (x > 0 ? T(1) : alpha * exp_of_negative(negative_part(x))); }
  static T negative_part(T x) { return x > 0 ? T(0) : x; }
};

template <class T>
struct Softplus {
  T beta, threshold;
  Softplus(double beta, double threshold) : beta(T(beta)), threshold(T(threshold)) {}
  T value(T x) const {
    const T scaled = x * beta;
    const T soft = ((scaled > 0 ? scaled : T(0)) + log1p_of_positive(exp_of_negative(-magnitude(scaled)))) / beta;
    return scaled > threshold ? x : soft;
  }
  T gradient(T g, T x) const { return g * (x * beta > threshold ? T(1) : sigmoid(x * beta)); }
};

template <class T>
struct Hardswish {
  Hardswish(double, double) {}
  T value(T x) const { return x * clamp(x + 3, T(0), T(6)) / 6; }
  T gradient(T g, T x) const { return g * (x < -3 ? T(0) : x <= 3 ? x / 3 + T(0.5) : T(1)); }
};

template <class T>
struct Silu {
  Silu(double, double) {}
  T value(T x) const { return x * sigmoid(x); }
  T gradient(T g, T x) const {
    const T gate = sigmoid(x);
    return g * (gate * (1 + x * (1 - gate)));
  }
};

template <class T>
struct Gelu {
  Gelu(double, double) {}
  T value(T x) const { return x * Normal<T>(x).cdf; }
  T gradient(T g, T x) const {
    const Normal<T> normal(x);
    const T moment = x * (normal.decayed * T(0.39894228040143268));
    return g * (normal.cdf + (normal.decayed > 0 ? moment : T(0)));  // not 0·∞
  }
};

template <class T>
struct GeluTanh {
  static constexpr T scale = T(1.5957691216057308), cubic = T(0.071354816272600248);  // 2·√(2/π), and that times 0.044715
  GeluTanh(double, double) {}
  T value(T x) const { return x * gate(x); }
  T gradient(T g, T x) const {
    const T bounded = clamp(x, T(-20), T(20)), open = gate(x);  // the gate is 0 or 1 beyond
    const T slope = bounded * (scale + 3 * cubic * (bounded * bounded));
    return g * (open * (1 + slope * (1 - open)));
  }
  static T gate(T x) { return sigmoid(x * (scale + cubic * (x * x))); }
};

template <class T>
struct Sigmoid {
  Sigmoid(double, double) {}
  T value(T x) const { return sigmoid(x); }
  T gradient(T g, T y) const { return g * ((1 - y) * y); }
};

template <class T>
struct Tanh {
  Tanh(double, double) {}
  T value(T x) const { return tanh(x); }
  T gradient(T g, T y) const { return g * (1 - y * y); }
};

template <class T>
struct Erf {
  Erf(double, double) {}
  T value(T x) const { return erf(x); }
  T gradient(T g, T x) const { return g * (T(1.1283791670955126) * exp_of_negative(-(x * x))); }
};

template <class T, class Function>
static void map(const Function& function, Index size, const T* x, T* y) {
  parallel_for(size, grain, [=](Index begin, Index end) {
    const Function f = function;  // a copy which no store into y can change
#pragma GCC ivdep
    for (Index i = begin; i < end; ++i) y[i] = f.value(x[i]);
  });
}

template <class T, class Function>
static void map_gradient(const Function& function, Index size, const T* gradient, const T* x, T* result) {
  parallel_for(size, grain, [=](Index begin, Index end) {
    const Function f = function;
#pragma GCC ivdep
    for (Index i = begin; i < end; ++i) result[i] = f.gradient(gradient[i], x[i]);
  });
}

// Calls call(function) for the function that is asked for.
template <class T, class Call>
static void choose(Activation function, double a, double b, const Call& call) {
  switch (function) {
    case Activation::relu: return call(Relu<T>(a, b));
    case Activation::clip: return call(Clip<T>(a, b));
    case Activation::leaky_relu: return call(LeakyRelu<T>(a, b));
    case Activation::elu: return call(Elu<T>(a, b));
    case Activation::softplus: return call(Softplus<T>(a, b));
    case Activation::hardswish: return call(Hardswish<T>(a, b));
    case Activation::silu: return call(Silu<T>(a, b));
    case Activation::gelu: return call(Gelu<T>(a, b));
    case Activation::gelu_tanh: return call(GeluTanh<T>(a, b));
    case Activation::sigmoid: return call(Sigmoid<T>(a, b));
    case Activation::tanh: return call(Tanh<T>(a, b));
    case Activation::erf: return call(Erf<T>(a, b));
  }
}

template <class T>
void activate(Activation function, Index size, const T* x, T* y, double a, double b) {
  choose<T>(function, a, b, [=](const auto& f) { map(f, size, x, y); });
}

template <class T>
void activate_backward(Activation function, Index size, const T* gradient, const T* x, T* result, double a, double b) {
  choose<T>(function, a, b, [=](const auto& f) { map_gradient(f, size, gradient, x, result); });
}

// Four rows are added in pairs, then to the sum so far.
template <class T>
void bias_gradient(Index rows, Index width, const T* gradient, T* result) {
  parallel_for(width, Index(1024), [=](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) result[i] = 0;
    Index row = 0;
    for (; row + 4 <= rows; row += 4) {
      const T* g = gradient + row * width;
#pragma GCC ivdep
      for (Index i = begin; i < end; ++i) result[i] += (g[i] + g[i + width]) + (g[i + 2 * width] + g[i + 3 * width]);
    }
    for (; row < rows; ++row) {
      const T* g = gradient + row * width;
#pragma GCC ivdep
      for (Index i = begin; i < end; ++i) result[i] += g[i];
    }
  });
}

#define INSTANTIATE(T)                                                                               \
  template void activate<T>(Activation, Index, const T*, T*, double, double);                        \
  template void activate_backward<T>(Activation, Index, const T*, const T*, T*, double, double);     \
  template void bias_gradient<T>(Index, Index, const T*, T*);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
