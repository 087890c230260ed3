// A C++ user: owns networks and plans with std::unique_ptr, turns errors into exceptions, and learns the
// function sin(x) by least squares.
//
//   c++ -std=c++11 -O2 -I. examples/user.cpp -o user -lm && ./user
#define CONVNET_IMPLEMENTATION
#include "convnet.h"

#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <vector>

namespace {

struct Free {
  void operator()(cn_network *net) const {
    cn_network_free(net);
  }
  void operator()(cn_trainer *trainer) const {
    cn_trainer_free(trainer);
  }
  void operator()(cn_predictor *predictor) const {
    cn_predictor_free(predictor);
  }
};
template <typename T> using Owned = std::unique_ptr<T, Free>;

template <typename T> Owned<T> own(T *object, const cn_error &error) {
  if (!object) throw std::runtime_error(error.message);
  return Owned<T>(object);
}

const int kPoints = 64;

float point(int i) {
  return 6.2831853f * static_cast<float>(i) / static_cast<float>(kPoints) - 3.1415927f;
}

void learn_sine() {
  cn_error error;
  Owned<cn_network> net = own(
      cn_network_parse("input 1x1x1\ndense 32\ntanh\ndense 32\ntanh\ndense 1\n", &error), error);
  cn_training_options options = cn_training_defaults();
  options.learning_rate = 0.01f;
  Owned<cn_trainer> trainer = own(cn_trainer_create(net.get(), kPoints, &options, &error), error);

  std::vector<float> x, y;
  for (int i = 0; i < kPoints; i++) {
    x.push_back(point(i));
    y.push_back(std::sin(point(i)));
  }
  cn_batch batch = {};
  batch.count = kPoints, batch.inputs = x.data(), batch.targets = y.data();
  cn_metrics metrics = {0, 0};
  for (int step = 0; step < 500; step++)
    if (cn_train_step(trainer.get(), &batch, &metrics, &error) != CN_OK)
      throw std::runtime_error(error.message);

  Owned<cn_predictor> predictor =
      own(cn_predictor_create(net.get(), kPoints, nullptr, &error), error);
  std::vector<float> outputs(kPoints);
  cn_predict(predictor.get(), x.data(), kPoints, outputs.data());
  for (std::size_t i = 0; i < x.size(); i += 8)
    std::printf("sin(%6.3f) = %6.3f, learnt %6.3f\n", static_cast<double>(x[i]),
                static_cast<double>(y[i]), static_cast<double>(outputs[i]));
  if (metrics.loss > 0.01) throw std::runtime_error("learnt nothing");
}

} // namespace

int main() {
  try {
    learn_sine();
  } catch (const std::exception &problem) {
    std::fprintf(stderr, "%s\n", problem.what());
    return 1;
  }
}
