namespace DT_ISA {

constexpr std::ptrdiff_t most_channels = 16;

// out[i, c, p] = (images[indices[i], p, c] / 255 - mean[c]) / deviation[c] for i < count; a step of 0 stands for one value for all channels. The
// `known` >= count indices lie within ±num_images; negative ones count from the end. Where there are targets, labels[i] = targets[indices[i]].
void normalized_samples(std::ptrdiff_t count, std::ptrdiff_t known, std::ptrdiff_t num_images, std::ptrdiff_t pixels, std::ptrdiff_t channels,
                        const std::uint8_t* images, const std::int64_t* indices, const float* mean, std::ptrdiff_t mean_step,
                        const float* deviation, std::ptrdiff_t deviation_step, float* out, const std::int64_t* targets, std::int64_t* labels);

}  // namespace DT_ISA
