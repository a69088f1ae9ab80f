#include "indices.h"
#define DT_HEADER "image.h"
#include "each_isa.h"

using namespace nb::literals;

static bool is_vector(const Array& array, int type) { return array.contiguous() && array.type() == type && array.ndim() == 1; }

// One value, or one for each channel.
static bool per_channel(const Array& values, Index channels) {
  return is_vector(values, NPY_FLOAT32) && (values.size() == 1 || values.size() == channels);
}

static nb::object normalized_samples(Array images, Array indices, Array mean, Array std, Array targets) {
  if (!images.contiguous() || images.type() != NPY_UINT8 || images.ndim() < 3 || images.ndim() > 4 || !is_vector(indices, NPY_INT64))
    return declined();
  const Index count = indices.size(), num_images = images.shape(0), channels = images.ndim() == 3 ? 1 : images.shape(3);
  const Index pixels = images.shape(1) * images.shape(2);
  if (channels > base::most_channels || !per_channel(mean, channels) || !per_channel(std, channels)) return declined();
  if (!all_within(indices, -num_images, num_images)) return declined();
  const Index known = count + num_following(indices, -num_images, num_images);
  if (targets && !(is_vector(targets, NPY_INT64) && targets.size() == num_images)) return declined();
  nb::object rows = empty({count, channels, images.shape(1), images.shape(2)}, NPY_FLOAT32);
  nb::object labels = targets ? empty({count}, NPY_INT64) : nb::none();
  {
    Unlocked unlocked(count * channels * pixels);
    DT_CALL(normalized_samples, count, known, num_images, pixels, channels, images.data<std::uint8_t>(), indices.data<std::int64_t>(),
            mean.data<float>(), mean.size() > 1, std.data<float>(), std.size() > 1, view(rows).data<float>(),
            targets ? targets.data<std::int64_t>() : nullptr, targets ? view(labels).data<std::int64_t>() : nullptr);
  }
  return nb::make_tuple(rows, labels);
}

void bind_image(nb::module_& module) {
  module.def("normalized_samples", &normalized_samples, "images"_a, "indices"_a, "mean"_a, "std"_a, "targets"_a.none());
}
