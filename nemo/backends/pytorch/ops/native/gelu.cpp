// GELU(x + bias) (Hendrycks and Gimpel 2016, arXiv 1606.08415), and its gradient.
#include "lanes.h"

namespace {

// The normal distribution function of u, and e^(-u^2/2): Abramowitz and Stegun 7.1.26, off by less than 1e-7.
inline Floats normal_cdf(Floats u, Floats* bell) {
    const Floats e = fast_exp(-0.5f * u * u);
    const Floats t = reciprocal(1.0f + 0.3275911f * 0.70710678f * absolute(u));
    Floats poly = t * 1.061405429f - 1.453152027f;
    poly = poly * t + 1.421413741f;
    poly = poly * t - 0.284496736f;
    poly = poly * t + 0.254829592f;
    const Floats tail = 0.5f * poly * t * e;
    *bell = e;
    return u < 0.0f ? tail : 1.0f - tail;
}

// out, derivative [n, d]; the derivative is all that backward needs, so the bell is not computed twice.
template <typename T>
void bias_gelu(int64_t threads, const T* x, const float* bias, T* out, T* derivative, int64_t n, int64_t d) {
    parallel(threads, n, [=](int64_t first, int64_t last, int64_t) {
        for (int64_t i = first; i < last; i++)
            in_lanes(d, [=](int64_t j, auto count) {
                const Floats u = load(x + i * d + j, count) + load(bias + j, count);
                Floats bell;
                const Floats cdf = normal_cdf(u, &bell);
                store(out + i * d + j, u * cdf, count);
                store(derivative + i * d + j, cdf + u * bell * 0.39894228f, count);
            });
    });
}

// x_grad [n, d] = grad * derivative; bias_grad [d] is added to.
template <typename T>
void bias_gelu_backward(int64_t threads, const T* grad, const T* derivative, T* x_grad, float* bias_grad, int64_t n,
                        int64_t d) {
    ThreadSums sums(threads, d);
    parallel(threads, n, [=, &sums](int64_t first, int64_t last, int64_t thread) {
        float* own = sums.of(thread);
        for (int64_t i = first; i < last; i++)
            in_lanes(d, [=](int64_t j, auto count) {
                const Floats g = load(grad + i * d + j, count) * load(derivative + i * d + j, count);
                store(x_grad + i * d + j, g, count);
                store(own + j, load(own + j, count) + g, count);
            });
    });
    sums.add_to(bias_grad);
}

}  // namespace

#define PARAMETERS(T) (int64_t threads, const T* x, const float* bias, T* out, T* derivative, int64_t n, int64_t d)
FOR_BOTH_TYPES(bias_gelu, PARAMETERS, (threads, x, bias, out, derivative, n, d))
#undef PARAMETERS

#define PARAMETERS(T) \
    (int64_t threads, const T* grad, const T* derivative, T* x_grad, float* bias_grad, int64_t n, int64_t d)
FOR_BOTH_TYPES(bias_gelu_backward, PARAMETERS, (threads, grad, derivative, x_grad, bias_grad, n, d))
