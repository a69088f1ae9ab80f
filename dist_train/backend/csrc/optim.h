// The optimizers' rules, one pass over a slice; the meaning of every argument is that of the reference in reference/optim.py.
namespace DT_ISA {

struct AdamScalars {
  double step_size, beta1, beta2, eps, weight_decay, shrink, grad_divisor;
  bool maximize;
};
template <class T>
void adam(std::ptrdiff_t size, T* param, const T* grad, T* exp_avg, T* exp_avg_sq, T* max_exp_avg_sq, const AdamScalars& s);

struct SgdScalars {
  double lr, momentum, dampening, weight_decay, grad_divisor;
  bool nesterov, maximize, first;
};
template <class T>
void sgd(std::ptrdiff_t size, T* param, const T* grad, T* momentum_buffer, const SgdScalars& s);

struct AdagradScalars {
  double lr, eps, weight_decay, grad_divisor;
  bool maximize;
};
template <class T>
void adagrad(std::ptrdiff_t size, T* param, const T* grad, T* sum, const AdagradScalars& s);

struct AdadeltaScalars {
  double lr, rho, eps, weight_decay, grad_divisor;
  bool maximize;
};
template <class T>
void adadelta(std::ptrdiff_t size, T* param, const T* grad, T* square_avg, T* acc_delta, const AdadeltaScalars& s);

struct RmspropScalars {
  double lr, alpha, eps, weight_decay, momentum, grad_divisor;
  bool maximize;
};
template <class T>
void rmsprop(std::ptrdiff_t size, T* param, const T* grad, T* square_avg, T* momentum_buffer, T* grad_avg, const RmspropScalars& s);

}  // namespace DT_ISA
