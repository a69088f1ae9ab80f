#include "array.h"
#define DT_HEADER "image.h"
#include "each_isa.h"

using namespace nb::literals;

static bool is_vector(const Array& array, int type) { return array.contiguous() && array.type() == type && array.ndim() == 1; }

// One value, or one for each channel.
static bool per_channel(const Array& values, Index channels) {
  return is_vector(values, NPY_FLOAT32) && (values.size() == 1 || values.size() == channels);
}

static bool within(const Array& indices, Index size) {
  const std::int64_t* values = indices.data<std::int64_t>();
  for (Index i = 0; i < indices.size(); ++i)
    if (values[i] < -size || values[i] >= size) return false;
  return true;
}

static bool fits(const Array& out, Index count, Index channels, const Array& images) {
  return out.contiguous() && out.writeable() && out.is_float32() && out.ndim() == 4 && out.shape(0) == count && out.shape(1) == channels &&
         out.shape(2) == images.shape(1) && out.shape(3) == images.shape(2);
}

static nb::object normalized_rows(Array images, Array indices, Array mean, Array std, Array out) {
  if (!images.contiguous() || images.type() != NPY_UINT8 || images.ndim() < 3 || images.ndim() > 4 || !is_vector(indices, NPY_INT64))
    return declined();
  const Index count = indices.size(), channels = images.ndim() == 3 ? 1 : images.shape(3), pixels = images.shape(1) * images.shape(2);
  if (channels > base::most_channels || bool(mean) != bool(std) || (mean && !(per_channel(mean, channels) && per_channel(std, channels)))) return declined();
  if (!within(indices, images.shape(0)) || (out && !fits(out, count, channels, images))) return declined();
  nb::object result = out ? nb::borrow(out.object()) : empty({count, channels, images.shape(1), images.shape(2)}, NPY_FLOAT32);
  const float zero = 0, one = 1;
  Unlocked unlocked(count * channels * pixels);
  DT_CALL(normalized_rows, count, images.shape(0), pixels, channels, images.data<std::uint8_t>(), indices.data<std::int64_t>(),
          mean ? mean.data<float>() : &zero, mean && mean.size() > 1, std ? std.data<float>() : &one, std && std.size() > 1,
          view(result).data<float>());
  return result;
}

void bind_image(nb::module_& module) {
  module.def("normalized_rows", &normalized_rows, "images"_a, "indices"_a, "mean"_a.none() = nb::none(), "std"_a.none() = nb::none(),
             "out"_a.none() = nb::none());
}
