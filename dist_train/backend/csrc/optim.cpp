#include "kernel.h"
#include "optim.h"

namespace DT_ISA {

static constexpr Index grain = 65536;

static inline float root(float x) { return __builtin_sqrtf(x); }
static inline double root(double x) { return __builtin_sqrt(x); }

// ±grad + weight_decay·param. What is not to be done must not be done: 0·inf is nan.
template <class T>
struct Direction {
  T weight_decay;
  bool maximize, decays;
  Direction(double weight_decay, bool maximize) : weight_decay(T(weight_decay)), maximize(maximize), decays(weight_decay != 0) {}
  T operator()(T param, T grad) const {
    const T sign = maximize ? -grad : grad;
    return decays ? param * weight_decay + sign : sign;
  }
};

// Calls pass(begin, end, mean) for consecutive parts; mean[i − begin] is grad[i] / divisor, rounded.
template <class T, class Pass>
static inline void over_means(Index size, const T* grad, double divisor, const Pass& pass) {
  parallel_for(size, grain, [=, &pass](Index begin, Index end) {
    if (divisor == 1) {
      pass(begin, end, grad + begin);
      return;
    }
    constexpr Index part = 1024;
    T mean[part];
    for (Index first = begin; first < end; first += part) {
      const Index count = min(part, end - first);
      for (Index i = 0; i < count; ++i) mean[i] = grad[first + i] / T(divisor);
      pass(first, first + count, mean);
    }
  });
}

// average + rest·(value − average)
template <class T>
static inline T averaged(T average, T value, T rest) {
  return average + (value - average) * rest;
}

// decay·average + rest·value²
template <class T>
static inline T averaged_square(T average, T value, T decay, T rest) {
  return average * decay + value * value * rest;
}

// NumPy's maximum: nan where either is nan.
template <class T>
static inline T larger(T a, T b) {
  return a >= b || a != a ? a : b;
}

template <class T, bool amsgrad>
static void adam_pass(Index size, T* param, const T* grad, T* exp_avg, T* exp_avg_sq, T* max_exp_avg_sq, const AdamScalars& s) {
  const Direction<T> direction(s.weight_decay, s.maximize);
  const T step_size = T(s.step_size), rest1 = T(1 - s.beta1), beta2 = T(s.beta2), rest2 = T(1 - s.beta2), eps = T(s.eps), shrink = T(s.shrink);
  over_means(size, grad, s.grad_divisor, [=](Index begin, Index end, const T* mean) {
#pragma GCC ivdep
    for (Index i = begin; i < end; ++i) {
      const T p = param[i] * shrink, g = direction(p, mean[i - begin]);
      const T m = exp_avg[i] = averaged(exp_avg[i], g, rest1);
      T v = exp_avg_sq[i] = averaged_square(exp_avg_sq[i], g, beta2, rest2);
      if (amsgrad) v = max_exp_avg_sq[i] = larger(max_exp_avg_sq[i], v);
      param[i] = p - m / (root(v) + eps) * step_size;
    }
  });
}

template <class T>
void adam(Index size, T* param, const T* grad, T* exp_avg, T* exp_avg_sq, T* max_exp_avg_sq, const AdamScalars& s) {
  if (max_exp_avg_sq)
    adam_pass<T, true>(size, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, s);
  else
    adam_pass<T, false>(size, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq, s);
}

enum class Momentum { none, first, heavy_ball, nesterov_first, nesterov };

template <class T, Momentum kind>
static void sgd_pass(Index size, T* param, const T* grad, T* momentum_buffer, const SgdScalars& s) {
  const Direction<T> direction(s.weight_decay, s.maximize);
  const T lr = T(s.lr), momentum = T(s.momentum), rest = T(1 - s.dampening);
  over_means(size, grad, s.grad_divisor, [=](Index begin, Index end, const T* mean) {
#pragma GCC ivdep
    for (Index i = begin; i < end; ++i) {
      T g = direction(param[i], mean[i - begin]);
      if (kind != Momentum::none) {
        const bool first = kind == Momentum::first || kind == Momentum::nesterov_first;
        const T buffer = momentum_buffer[i] = first ? g : momentum_buffer[i] * momentum + g * rest;
        g = kind == Momentum::nesterov || kind == Momentum::nesterov_first ? g + buffer * momentum : buffer;
      }
      param[i] -= g * lr;
    }
  });
}

template <class T>
void sgd(Index size, T* param, const T* grad, T* momentum_buffer, const SgdScalars& s) {
  if (!momentum_buffer)
    sgd_pass<T, Momentum::none>(size, param, grad, momentum_buffer, s);
  else if (s.first && s.nesterov)
    sgd_pass<T, Momentum::nesterov_first>(size, param, grad, momentum_buffer, s);
  else if (s.first)
    sgd_pass<T, Momentum::first>(size, param, grad, momentum_buffer, s);
  else if (s.nesterov)
    sgd_pass<T, Momentum::nesterov>(size, param, grad, momentum_buffer, s);
  else
    sgd_pass<T, Momentum::heavy_ball>(size, param, grad, momentum_buffer, s);
}

template <class T>
void adagrad(Index size, T* param, const T* grad, T* sum, const AdagradScalars& s) {
  const Direction<T> direction(s.weight_decay, s.maximize);
  const T lr = T(s.lr), eps = T(s.eps);
  over_means(size, grad, s.grad_divisor, [=](Index begin, Index end, const T* mean) {
#pragma GCC ivdep
    for (Index i = begin; i < end; ++i) {
      const T g = direction(param[i], mean[i - begin]);
      const T total = sum[i] = sum[i] + g * g;
      param[i] -= g / (root(total) + eps) * lr;
    }
  });
}

template <class T>
void adadelta(Index size, T* param, const T* grad, T* square_avg, T* acc_delta, const AdadeltaScalars& s) {
  const Direction<T> direction(s.weight_decay, s.maximize);
  const T lr = T(s.lr), rho = T(s.rho), rest = T(1 - s.rho), eps = T(s.eps);
  over_means(size, grad, s.grad_divisor, [=](Index begin, Index end, const T* mean) {
#pragma GCC ivdep
    for (Index i = begin; i < end; ++i) {
      const T g = direction(param[i], mean[i - begin]);
      const T square = square_avg[i] = averaged_square(square_avg[i], g, rho, rest);
      const T delta = root(acc_delta[i] + eps) / root(square + eps) * g;
      acc_delta[i] = averaged_square(acc_delta[i], delta, rho, rest);
      param[i] -= delta * lr;
    }
  });
}

template <class T, bool centered, bool has_momentum>
static void rmsprop_pass(Index size, T* param, const T* grad, T* square_avg, T* momentum_buffer, T* grad_avg, const RmspropScalars& s) {
  const Direction<T> direction(s.weight_decay, s.maximize);
  const T lr = T(s.lr), alpha = T(s.alpha), rest = T(1 - s.alpha), eps = T(s.eps), momentum = T(s.momentum);
  over_means(size, grad, s.grad_divisor, [=](Index begin, Index end, const T* mean) {
#pragma GCC ivdep
    for (Index i = begin; i < end; ++i) {
      const T g = direction(param[i], mean[i - begin]);
      T square = square_avg[i] = averaged_square(square_avg[i], g, alpha, rest);
      if (centered) {
        const T mean = grad_avg[i] = averaged(grad_avg[i], g, rest);
        square = larger(square - mean * mean, T(0));
      }
      T step = g / (root(square) + eps);
      if (has_momentum) step = momentum_buffer[i] = momentum_buffer[i] * momentum + step;
      param[i] -= step * lr;
    }
  });
}

template <class T>
void rmsprop(Index size, T* param, const T* grad, T* square_avg, T* momentum_buffer, T* grad_avg, const RmspropScalars& s) {
  if (grad_avg && momentum_buffer)
    rmsprop_pass<T, true, true>(size, param, grad, square_avg, momentum_buffer, grad_avg, s);
  else if (grad_avg)
    rmsprop_pass<T, true, false>(size, param, grad, square_avg, momentum_buffer, grad_avg, s);
  else if (momentum_buffer)
    rmsprop_pass<T, false, true>(size, param, grad, square_avg, momentum_buffer, grad_avg, s);
  else
    rmsprop_pass<T, false, false>(size, param, grad, square_avg, momentum_buffer, grad_avg, s);
}

#define INSTANTIATE(T)                                                                       \
  template void adam<T>(Index, T*, const T*, T*, T*, T*, const AdamScalars&);                \
  template void sgd<T>(Index, T*, const T*, T*, const SgdScalars&);                          \
  template void adagrad<T>(Index, T*, const T*, T*, const AdagradScalars&);                  \
  template void adadelta<T>(Index, T*, const T*, T*, T*, const AdadeltaScalars&);            \
  template void rmsprop<T>(Index, T*, const T*, T*, T*, T*, const RmspropScalars&);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace DT_ISA
