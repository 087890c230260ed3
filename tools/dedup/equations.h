/* equations.h - least squares of a few unknowns. */
#ifndef TALLY_DEDUP_EQUATIONS_H
#define TALLY_DEDUP_EQUATIONS_H

/* Inverts a symmetric positive definite matrix of n x n in place (Gauss-Jordan). */
static inline void invert_matrix(double *m, int n) {
  for (int i = 0; i < n; i++) {
    double pivot = m[i * n + i];
    m[i * n + i] = 1;
    for (int c = 0; c < n; c++) m[i * n + c] /= pivot;
    for (int r = 0; r < n; r++) {
      double factor = m[r * n + i];
      if (r == i) continue;
      m[r * n + i] = 0;
      for (int c = 0; c < n; c++) m[r * n + c] -= factor * m[i * n + c];
    }
  }
}

/* Adds the products of one row of unknowns' factors to the lower half of a matrix. */
static inline void add_products(double *m, const double *factors, int n) {
  for (int r = 0; r < n; r++)
    for (int c = 0; c <= r; c++) m[r * n + c] += factors[r] * factors[c];
}

/* Fills the upper half, and adds to the diagonal what keeps unknowns at 0 of which nothing is known. */
static inline void complete_matrix(double *m, const double *stiffness, int n) {
  for (int r = 0; r < n; r++) {
    for (int c = 0; c < r; c++) m[c * n + r] = m[r * n + c];
    m[r * n + r] += stiffness[r];
  }
}

static inline double clamp(double value, double low, double high) {
  return value < low ? low : value > high ? high : value;
}

#endif
