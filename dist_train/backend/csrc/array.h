// NumPy arrays as the bindings see them. An argument of type Array is a borrowed numpy.ndarray, or none where the binding says so.
#pragma once

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION NPY_2_0_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL dist_train_numpy
#ifndef DT_IMPORT_NUMPY
#define NO_IMPORT_ARRAY
#endif
#include <nanobind/nanobind.h>
#include <numpy/arrayobject.h>

#include <initializer_list>

namespace nb = nanobind;
using Index = std::ptrdiff_t;

class Array {
 public:
  Array() = default;
  explicit Array(PyObject* object) : object_(reinterpret_cast<PyArrayObject*>(object)) {}

  explicit operator bool() const { return object_ != nullptr; }
  PyObject* object() const { return reinterpret_cast<PyObject*>(object_); }
  int type() const { return PyArray_TYPE(object_); }  // NPY_FLOAT32, …
  bool is_float32() const { return type() == NPY_FLOAT32; }
  bool is_float64() const { return type() == NPY_FLOAT64; }
  int ndim() const { return PyArray_NDIM(object_); }
  Index size() const { return PyArray_SIZE(object_); }
  Index shape(int axis) const { return PyArray_DIM(object_, axis < 0 ? axis + ndim() : axis); }
  Index stride(int axis) const { return PyArray_STRIDE(object_, axis < 0 ? axis + ndim() : axis); }  // in bytes
  bool contiguous() const { return PyArray_IS_C_CONTIGUOUS(object_) && PyArray_ISBEHAVED_RO(object_); }
  bool writeable() const { return PyArray_ISWRITEABLE(object_); }
  bool same_shape(const Array& other) const { return PyArray_SAMESHAPE(object_, other.object_); }

  template <class T>
  T* data() const {
    return static_cast<T*>(PyArray_DATA(object_));
  }

 private:
  PyArrayObject* object_ = nullptr;
};

// A new, uninitialised array.
inline nb::object empty(std::initializer_list<Index> shape, int type) {
  npy_intp dims[NPY_MAXDIMS];
  int ndim = 0;
  for (Index extent : shape) dims[ndim++] = extent;
  PyObject* array = PyArray_SimpleNew(ndim, dims, type);
  if (!array) nb::raise_python_error();
  return nb::steal(array);
}

// A new, uninitialised C-contiguous array of the shape and type of `array`.
inline nb::object empty_like(const Array& array) {
  return nb::steal(PyArray_SimpleNew(array.ndim(), PyArray_DIMS(reinterpret_cast<PyArrayObject*>(array.object())), array.type()));
}

inline Array view(const nb::object& object) { return Array(object.ptr()); }

// An argument that kernels can read: the array itself, or a contiguous copy which lives as long as this.
class Contiguous : public Array {
 public:
  explicit Contiguous(const Array& array) : Array(array) {
    if (!array || array.contiguous()) return;
    copy_ = nb::steal(PyArray_NewCopy(reinterpret_cast<PyArrayObject*>(array.object()), NPY_CORDER));
    if (!copy_.is_valid()) nb::raise_python_error();
    Array::operator=(view(copy_));
  }

 private:
  nb::object copy_;
};

// What a binding returns when it leaves the work to the reference.
inline nb::object declined() { return nb::borrow(Py_NotImplemented); }

// Whether all arrays (none are skipped) are C-contiguous, aligned, of one and the same floating type: float32 or float64.
inline bool all_floating(std::initializer_list<const Array*> arrays) {
  int type = -1;
  for (const Array* array : arrays) {
    if (!*array) continue;
    if (!array->contiguous() || (type >= 0 && array->type() != type)) return false;
    type = array->type();
  }
  return type == NPY_FLOAT32 || type == NPY_FLOAT64;
}

// Whether all arrays (none are skipped) have the shape of the first.
inline bool all_same_shape(std::initializer_list<const Array*> arrays) {
  const Array* first = *arrays.begin();
  for (const Array* array : arrays)
    if (*array && !array->same_shape(*first)) return false;
  return true;
}

// Lets other Python threads run while it lives, where the work is worth the exchange of the lock.
class Unlocked {
 public:
  explicit Unlocked(Index elements) : state_(elements > 16384 ? PyEval_SaveThread() : nullptr) {}
  ~Unlocked() {
    if (state_) PyEval_RestoreThread(state_);
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  PyThreadState* state_;
};

namespace nanobind::detail {
template <>
struct type_caster<Array> {
  NB_TYPE_CASTER(Array, const_name("numpy.ndarray"))
  bool from_python(handle source, uint8_t, cleanup_list* cleanup) noexcept {
    PyObject* object = source.ptr();
    if (source.is_none() || PyArray_Check(object)) {
      value = source.is_none() ? Array() : Array(object);
      return true;
    }
    if (!cleanup || !PyArray_CheckScalar(object)) return false;
    PyObject* array = PyArray_FromScalar(object, nullptr);  // what arithmetic makes of arrays without axes
    if (!array) {
      PyErr_Clear();
      return false;
    }
    cleanup->append(array);
    value = Array(array);
    return true;
  }
  static handle from_cpp(Array array, rv_policy, cleanup_list*) noexcept { return handle(array.object()).inc_ref(); }
};
}  // namespace nanobind::detail
