// Matrix products of NumPy arrays.
#include "array.h"
#include "blas.h"
#define DT_HEADER "activation.h"
#include "each_isa.h"

// A matrix as BLAS takes it: rows one after another at a distance, or the transpose of such a matrix.
struct Matrix {
  Index rows, columns, distance;
  bool transposed;

  // false where the last two axes of `array` are neither
  bool take(const Array& array) {
    const Index item = PyArray_ITEMSIZE(reinterpret_cast<PyArrayObject*>(array.object()));
    rows = array.shape(-2), columns = array.shape(-1);
    const Index row = array.stride(-2), column = array.stride(-1);
    transposed = column != item;
    const Index along = transposed ? row : column, across = transposed ? column : row, length = transposed ? rows : columns;
    distance = across / item;
    return along == item && across % item == 0 && distance >= length && distance < (Index(1) << 31);
  }
};

static bool suits(const Array& array) {
  return PyArray_ISBEHAVED_RO(reinterpret_cast<PyArrayObject*>(array.object())) && (array.is_float32() || array.is_float64());
}

template <class T>
static void multiply(const Matrix& a, const T* pa, const Matrix& b, const T* pb, T* c) {
  gemm(a.transposed, b.transposed, a.rows, b.columns, a.columns, pa, a.distance, pb, b.distance, nullptr, c, b.columns);
}

// Products with a side of 1 are left to NumPy, which takes the matrix-vector routines.
static bool worthwhile(const Matrix& a, const Matrix& b) {
  const Index limit = Index(1) << 31;
  return a.rows > 1 && b.columns > 1 && a.columns > 1 && a.columns == b.rows && a.rows < limit && b.columns < limit && a.columns < limit;
}

static nb::object product(Array a, Array b, Array out) {
  if (!have_blas() || a.ndim() != 2 || b.ndim() != 2 || !suits(a) || !suits(b) || a.type() != b.type()) return declined();
  Matrix left, right;
  if (!left.take(a) || !right.take(b) || !worthwhile(left, right)) return declined();
  if (out && (out.ndim() != 2 || out.type() != a.type() || !out.contiguous() || !out.writeable() || out.shape(0) != left.rows ||
              out.shape(1) != right.columns))
    return declined();
  nb::object result = out ? nb::borrow(out.object()) : empty({left.rows, right.columns}, a.type());
  const Array c = view(result);
  Unlocked unlocked(left.rows * right.columns * left.columns / 16);
  if (a.is_float32())
    multiply(left, a.data<float>(), right, b.data<float>(), c.data<float>());
  else
    multiply(left, a.data<double>(), right, b.data<double>(), c.data<double>());
  return result;
}

// As many axes as x, of which the last has another length.
static nb::object like_rows(const Array& x, Index columns) {
  npy_intp shape[NPY_MAXDIMS];
  for (int axis = 0; axis < x.ndim(); ++axis) shape[axis] = x.shape(axis);
  shape[x.ndim() - 1] = columns;
  return nb::steal(PyArray_SimpleNew(x.ndim(), shape, x.type()));
}

template <class T>
static void multiply_add(Index m, Index n, Index k, const Array& x, const Array& weight, const Array& bias, const Array& y) {
  gemm(false, true, m, n, k, x.data<T>(), k, weight.data<T>(), k, bias ? bias.data<T>() : nullptr, y.data<T>(), n);
}

static nb::object linear(Array x, Array weight, Array bias) {
  if (!have_blas() || x.ndim() < 2 || weight.ndim() != 2 || !all_floating({&x, &weight, &bias})) return declined();
  const Index n = weight.shape(0), k = weight.shape(1), m = k ? x.size() / k : 0, limit = Index(1) << 31;
  if (x.shape(-1) != k || m < 1 || n < 1 || k < 1 || m >= limit || n >= limit || k >= limit) return declined();
  if (bias && (bias.ndim() != 1 || bias.shape(0) != n)) return declined();
  nb::object result = like_rows(x, n);
  const Array y = view(result);
  Unlocked unlocked(m * n * k / 16);
  if (x.is_float32())
    multiply_add<float>(m, n, k, x, weight, bias, y);
  else
    multiply_add<double>(m, n, k, x, weight, bias, y);
  return result;
}

template <class T>
static void backward(Index m, Index n, Index k, const Array& gradient, const Array& x, const Array& weight, const Array& of_x, const Array& of_weight,
                     const Array& of_bias) {
  const T* g = gradient.data<T>();
  if (of_x) gemm(false, false, m, k, n, g, n, weight.data<T>(), k, nullptr, of_x.data<T>(), k);
  if (of_weight) gemm(true, false, n, k, m, g, n, x.data<T>(), k, nullptr, of_weight.data<T>(), k);
  if (of_bias) DT_CALL(bias_gradient<T>, m, n, g, of_bias.data<T>());
}

static Array given(const nb::object& object) { return object.is_none() ? Array() : view(object); }

static nb::object linear_backward(Array gradient, Array x, Array weight, bool bias, Array out) {
  const Array& other = x ? x : weight;
  if (!have_blas() || !other || gradient.ndim() < 2 || !all_floating({&gradient, &x, &weight, &out})) return declined();
  const Index n = gradient.shape(-1), k = other.shape(-1), m = n ? gradient.size() / n : 0, limit = Index(1) << 31;
  if (m < 2 || n < 2 || k < 2 || m >= limit || n >= limit || k >= limit) return declined();
  if ((x && x.size() != m * k) || (weight && (weight.ndim() != 2 || weight.shape(0) != n || weight.shape(1) != k))) return declined();
  if (out && (!x || out.ndim() != 2 || !out.writeable() || out.shape(0) != n || out.shape(1) != k)) return declined();
  nb::object of_x = weight ? like_rows(gradient, k) : nb::none(), of_bias = bias ? empty({n}, gradient.type()) : nb::none();
  nb::object of_weight = !x ? nb::none() : out ? nb::borrow(out.object()) : empty({n, k}, gradient.type());
  const Array results[] = {given(of_x), given(of_weight), given(of_bias)};
  {
    Unlocked unlocked(m * n * k / 16);
    if (gradient.is_float32())
      backward<float>(m, n, k, gradient, x, weight, results[0], results[1], results[2]);
    else
      backward<double>(m, n, k, gradient, x, weight, results[0], results[1], results[2]);
  }
  return nb::make_tuple(of_x, of_weight, of_bias);
}

void bind_product(nb::module_& module) {
  using namespace nb::literals;
  module.def("product", &product, "a"_a, "b"_a, "out"_a.none() = nb::none());
  module.def("linear", &linear, "x"_a, "weight"_a, "bias"_a.none());
  module.def("linear_backward", &linear_backward, "gradient"_a, "x"_a.none(), "weight"_a.none(), "bias"_a, "out"_a.none());
}
