// exp, log, tanh, erf and their kin for float and double, for kernel files: plain arithmetic without branches, so that loops over them are
// vectorised, and the same bits for every instruction set. Errors are below 1 ulp for exp and log, 2.5 for sigmoid and tanh, 4
// for erf; nan, infinities, overflow and denormal numbers are as in libm. Coefficients are minimax fits (Remez), highest power first.
#pragma once

#include "kernel.h"

namespace DT_ISA {

// What the functions need to know about a floating type. `shifter` = 1.5·2^mantissa: adding it rounds to an integer, found in the low bits.
template <class T>
struct Floating;

template <>
struct Floating<float> {
  using Bits = std::uint32_t;
  static constexpr int mantissa = 23, bias = 127;
  static constexpr float shifter = 0x1.8p23f;
  static constexpr float ln2_high = 0x1.63p-1f, ln2_low = -0x1.bd0106p-13f;  // multiples of ln2_high by exponents are exact
  static constexpr float exp_low = -104.5f, exp_high = 89.5f;                // beyond, exp is 0 and inf
  static constexpr float exp_normal = -87.3f;                                // above, exp is a normal number
  static constexpr float smallest_normal = 0x1p-126f;
  static constexpr float exp_tail[] = {0.0013814467238262296f, 0.008368780836462975f, 0.04166839271783829f, 0.1666651964187622f,
                                       0.4999999403953552f};
  static constexpr float log_tail[] = {0.298730731010437f, 0.399774968624115f, 0.6666677594184875f};
};

template <>
struct Floating<double> {
  using Bits = std::uint64_t;
  static constexpr int mantissa = 52, bias = 1023;
  static constexpr double shifter = 0x1.8p52;
  static constexpr double ln2_high = 0x1.62e42fefap-1, ln2_low = 0x1.cf79abc9e3b3ap-40;
  static constexpr double exp_low = -746, exp_high = 710;
  static constexpr double exp_normal = -708.3;
  static constexpr double smallest_normal = 0x1p-1022;
  static constexpr double exp_tail[] = {2.499996535964128e-08,  2.7630378625210663e-07, 2.755758734216402e-06, 2.4801492762781813e-05,
                                        0.00019841269504765384, 0.0013888888943922656,  0.008333333333495624,  0.04166666666652919,
                                        0.1666666666666641,     0.5000000000000011};
  static constexpr double log_tail[] = {0.14797507931302573, 0.15313903213165178, 0.1818356974167057, 0.22222198475936605,
                                        0.28571428743263344, 0.3999999999941109,  0.6666666666666735};
};

template <class T>
static inline typename Floating<T>::Bits bits_of(T x) {
  typename Floating<T>::Bits bits;
  __builtin_memcpy(&bits, &x, sizeof x);
  return bits;
}

template <class T>
static inline T from_bits(typename Floating<T>::Bits bits) {
  T x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

static inline float magnitude(float x) { return __builtin_fabsf(x); }
static inline double magnitude(double x) { return __builtin_fabs(x); }
static inline float with_sign(float x, float sign) { return __builtin_copysignf(x, sign); }
static inline double with_sign(double x, double sign) { return __builtin_copysign(x, sign); }
static inline float square_root(float x) { return __builtin_sqrtf(x); }
static inline double square_root(double x) { return __builtin_sqrt(x); }

// x kept within [low, high]; nan stays nan.
template <class T>
static inline T clamp(T x, T low, T high) {
  x = x < low ? low : x;
  return x > high ? high : x;
}

// NumPy's maximum: nan where either is nan.
template <class T>
static inline T maximum(T a, T b) {
  return a >= b || a != a ? a : b;
}

// Horner's rule.
template <class T, int count>
static inline T polynomial(const T (&coefficients)[count], T x) {
  T sum = coefficients[0];
#pragma GCC unroll 16
  for (int i = 1; i < count; ++i) sum = sum * x + coefficients[i];
  return sum;
}

// 2ⁿ from n + shifter, for normal results.
template <class T>
static inline T power_of_two(T shifted) {
  using F = Floating<T>;
  return from_bits<T>((bits_of(shifted) << F::mantissa) + bits_of(T(1)));
}

// exp(x) = 2ⁿ·(1 + part) with |x − n·log 2| ≤ log(2) / 2.
template <class T>
struct Exponent {
  T shifted, n, part;
  explicit Exponent(T x) {
    using F = Floating<T>;
    shifted = x * T(1.4426950408889634) + F::shifter;
    n = shifted - F::shifter;
    const T r = (x - n * F::ln2_high) - n * F::ln2_low;
    part = r + r * r * polynomial(F::exp_tail, r);
  }
};

template <class T>
static inline T exp(T x) {
  using F = Floating<T>;
  const Exponent<T> e(clamp(x, F::exp_low, F::exp_high));
  const T half = e.n * T(0.5) + F::shifter, rest = e.n - (half - F::shifter);  // 2ⁿ itself may not be representable
  return (1 + e.part) * power_of_two(half) * power_of_two(rest + F::shifter);
}

// exp(x) for x ≤ 0 (more exactly, where it does not overflow), with denormal results as 0: what softmax needs, in two thirds of the time.
template <class T>
static inline T exp_of_negative(T x) {
  using F = Floating<T>;
  const Exponent<T> e(x);
  const T y = (1 + e.part) * power_of_two(e.shifted);
  return x < F::exp_normal ? T(0) : y;
}

// exp(x) − 1 for x ≤ 0
template <class T>
static inline T expm1_of_negative(T x) {
  const Exponent<T> e(x < T(-40) ? T(-40) : x);
  const T power = power_of_two(e.shifted);
  return power * e.part + (power - 1);
}

// log(x) = n·log 2 + log(1 + f) with √½ ≤ 1 + f < √2, and log((1 + s) / (1 − s)) = 2s + s³·P(s²).
template <class T>
static inline T log(T x) {
  using F = Floating<T>;
  using Bits = typename F::Bits;
  const bool tiny = x < F::smallest_normal;
  const T scale = T(Bits(1) << F::mantissa);
  const Bits root = bits_of(T(0.70710678118654752));
  const Bits bits = bits_of(tiny ? x * scale : x) + (bits_of(T(1)) - root);
  const T exponent = from_bits<T>((bits >> F::mantissa) + bits_of(scale)) - scale;  // a conversion that all instruction sets have
  const T n = exponent - T(tiny ? F::bias + F::mantissa : F::bias);
  const T f = from_bits<T>((bits & ((Bits(1) << F::mantissa) - 1)) + root) - 1;
  const T s = f / (2 + f), z = s * s, half = f * f * T(0.5);
  const T y = n * F::ln2_high - ((half - (s * (half + z * polynomial(F::log_tail, z)) + n * F::ln2_low)) - f);
  const T infinity = T(__builtin_inf());
  return x == 0 ? -infinity : x < 0 || x != x ? T(__builtin_nan("")) : x == infinity ? x : y;
}

// log(1 + x) for x ≥ 0
template <class T>
static inline T log1p_of_positive(T x) {
  const T sum = 1 + x, lost = x - (sum - 1);
  return x == T(__builtin_inf()) ? x : log(sum) + lost / sum;
}

// 1 / (1 + exp(−x)), right to rounding at both ends
template <class T>
static inline T sigmoid(T x) {
  const T decayed = exp_of_negative(-magnitude(x));
  return (x < 0 ? decayed : T(1)) / (1 + decayed);
}

// tanh(x) = −d / (2 + d) with d = exp(−2x) − 1 for x ≥ 0
template <class T>
static inline T tanh(T x) {
  const T d = expm1_of_negative(-2 * magnitude(x));
  return with_sign(d / (2 + d), x);
}

// W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969): erf(x) = x·P(x²)/Q(x²) below 0.46875,
// erfc(x) = exp(−x²)·P(x)/Q(x) above (to 4, and close enough to 6, where erf(x) is 1).
static inline double erf(double x) {
  constexpr double near_p[] = {1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2,
                               3.20937758913846947e3};
  constexpr double near_q[] = {1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3};
  constexpr double far_p[] = {2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1,
                              2.98635138197400131e2,  8.81952221241769090e2,  1.71204761263407058e3, 2.05107837782607147e3,
                              1.23033935479799725e3};
  constexpr double far_q[] = {1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
                              3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3};
  const double size = clamp(magnitude(x), 0.0, 6.0), square = size * size;
  const double near = x * (polynomial(near_p, square) / polynomial(near_q, square));
  const double far = with_sign(1 - exp_of_negative(-square) * (polynomial(far_p, size) / polynomial(far_q, size)), x);
  return size < 0.46875 ? near : far;
}

// tanh(x·P(x²)), right to 2e-7 of itself.
static inline float erf(float x) {
  constexpr float p[] = {1.7462728e-09f, -5.6810453e-08f, 5.4533837e-07f, 1.7074714e-06f, -7.608866e-05f,
                         6.0315715e-04f, 2.0245925e-04f,  -1.0277138e-01f, -1.1283792e+00f};
  return tanh(-x * polynomial(p, clamp(x * x, 0.0f, 13.52f)));  // beyond, erf(x) is 1 to rounding
}

// The normal distribution: Φ(x), and exp(−x²/2), which is its density but for 1/√(2π).
template <class T>
struct Normal;

template <>
struct Normal<float> {
  float decayed, cdf;
  explicit Normal(float x) {
    constexpr float p[] = {0.046676259487867355f, -0.22664381563663483f, 0.3449353873729706f,  -0.10618869215250015f,
                           0.19325301051139832f,  0.11428898572921753f,  0.13378708064556122f, -0.00010819462477229536f};
    decayed = exp_of_negative(x * x * -0.5f);
    const float tail = decayed * polynomial(p, 1 / (1 + 0.33f * magnitude(x)));  // right to 2e-7
    cdf = x < 0 ? tail : 1 - tail;
  }
};

template <>
struct Normal<double> {
  double decayed, cdf;
  explicit Normal(double x) : decayed(exp_of_negative(x * x * -0.5)), cdf((1 + erf(x * 0.70710678118654752)) * 0.5) {}
};

}  // namespace DT_ISA
