/* convnet.h - v0.1.0 - convolutional networks on the CPU, forward and backward - MIT licence

   DO THIS
       #define CONVNET_IMPLEMENTATION      in exactly one C or C++ file, before
       #include "convnet.h"
   and compile with a plain `cc -O2 file.c -lm` (C99 or C++11); it uses every core. Everywhere else
   include the header without the macro. Where the C library keeps threads apart (glibc before 2.34)
   add -pthread. On x86-64 and AArch64 gcc, clang, clang-cl and zig cc (Linux, Windows, macOS) need
   no flags for the vector kernels; on WebAssembly they want -msimd128, on 32-bit ARM -mfpu=neon.
   Other compilers take the scalar kernels.

   A SMALL COMPLETE PROGRAM (tests compile and run it)

       cn_error error;
       cn_network *net = cn_arch_network("base", NULL, &error);
       cn_training_options options = cn_training_defaults();
       cn_trainer *trainer = cn_trainer_create(net, 200, &options, &error);
       for (int step = 0; step < steps; step++) {
         cn_batch batch = {0};                      // 200 images of 28 x 28 x 1, labels 0 to 9
         batch.count = 200;
         batch.inputs = images + step * 200 * 784;
         batch.labels = labels + step * 200;
         cn_metrics metrics;
         if (cn_train_step(trainer, &batch, &metrics, &error) != CN_OK) puts(error.message);
       }
       cn_save(net, "base.safetensors", &error);
       cn_trainer_free(trainer);
       cn_network_free(net);

   LIMITS, FIRST
   - 32-bit floats only; images are dense NHWC: [image][row][column][channel], channel fastest.
   - A tensor holds at most 2^31 - 2^16 values for one image; a dimension is at most
     CN_MAX_DIMENSION (a dense layer's inputs, being rows x columns x channels, may be more).
     Networks and batches that need more memory than a machine can have are refused, not cut.
   - Weights of a convolution are HWIO: [kernel row][kernel column][input channel / groups][filter].
     Files hold PyTorch's OIHW; cn_save and cn_load translate.
   - Float pointers may be unaligned unless a comment says otherwise; 64-byte alignment is faster.
   - Buffers of one call must not overlap, except where a comment says "may be the same".
   - NaN and infinity pass through arithmetic as IEEE 754 has it, but a gradient of 0 may count for
     nothing beside them; max pooling and ReLU treat NaN as smaller than everything. A training step
     is refused, and changes nothing, where a value of the batch, the loss, a running figure or a
     gradient is not finite. That holds with -ffast-math too, of which the implementation frees
     itself; but with clang max pooling and ReLU may then treat NaN otherwise.
   - Subnormal numbers count as zero inside cn_train_step and cn_predict (the mode is restored),
     where the processor and the compiler have a switch for it: x86 with SSE2 and ARM, with any
     kernels, but not by tcc. Elsewhere (x87, WebAssembly, RISC-V, POWER, z) they count as what they are.

   LAYERS, each only using the one above it
     1. Kernels    cn_conv2d_*, cn_pool2d_*, cn_relu_*, ... on raw pointers. They own nothing,
                   allocate nothing, print nothing. Heavy ones split into independent units: call
                   them for [begin, end) from as many threads as you like, each with a workspace of
                   its own; cn_parallel_for does that.
     2. Networks   cn_network: a graph of nodes and its parameters, from text or from C calls.
                   cn_predictor: a plan for inference.
     3. Training   cn_trainer: a plan for training, the optimiser and its state.
     4. Files      cn_save, cn_load, cn_load_weights, also in memory, and safetensors below them.

   NETWORKS AS TEXT: one node a line, # starts a comment, names in front, options behind; numbers
   have a decimal point, whatever the locale has
       input 28x28x1                rows x columns x channels; must come first, others may follow
       conv 16 3x3 pad=1            filters, window. stride=1 dilation=1 pad=0 groups=1 padding=zero
                                    bias=yes; sizes are N or RxC; pad is also same or T,L,B,R;
                                    padding is zero, replicate or wrap; init=glorot, he,
                                    gaussian:0.01 or constant:0 (weights; biases start at 0)
       dense 128                    every input value to each of 128 outputs. bias=, init= as above
       maxpool 2x2                  also minpool, meanpool, mixpool (mix=0.5: share of the maximum);
                                    stride=window pad=0; ceil=no; meanpool: count=inside or all
       globalmean                   mean over rows and columns
       adaptivemean 7x7             means over windows that cut the map into 7x7, as PyTorch cuts it
       relu    sigmoid    tanh
       scale 0.17                   every value times 0.17
       batchnorm                    eps=1e-5 momentum=0.1 (share of the batch in running figures)
       dropout 0.5                  in training drops with probability 0.5, scales the rest by 2
       stem: conv 8 7x7             a name for the node (default: kind and number: conv1, conv2)
       relu from=stem               takes its input from there rather than from the line above
       add from=relu1,conv3         sum of equal shapes
       concat from=a,b,c            joins channels
       softmax                      the last node decides the loss: softmax: cross-entropy of
                                    labels; sigmoid: binary cross-entropy of targets; else
                                    squared error
       softmax loss=0.3 from=x      an auxiliary head: in training its loss is added, times 0.3, for
                                    the last node's labels; in inference what only it needs is left
                                    out. loss=1
       age: dense 1 from=x output=2 an output beside the last node, with a loss by its own labels or
                                    targets, which counts twice; its kind decides the loss as the
                                    last node's does

   NETWORKS BY NAME: cn_arch_network("resnet18", NULL, &error), or cn_arch_text for their text
       base revised lenet mlp mlp-dropout logistic             28x28x1, 10 classes
       alexnet   vgg11 vgg13 vgg16 vgg19, each also with _bn   224x224x3, 1000 classes
       resnet18 resnet34 resnet50 resnet101 resnet152 resnext50_32x4d
       squeezenet1_0 squeezenet1_1   densenet121 densenet161 densenet169 densenet201   googlenet
       inception_v3 inception_resnet_v2 xception               299x299x3, 1000 classes
     Other inputs and numbers of classes by options. Names and shapes of tensors are torchvision's;
     for inception_resnet_v2 and xception they are timm's. To use weights from Python, save them
         safetensors.torch.save_file(model.state_dict(), "resnet18.safetensors")
     and load them with cn_load_weights; in Python, what cn_save wrote is read by
         model.load_state_dict(safetensors.torch.load_file("model.safetensors"))
     With a report cn_load_weights leaves a head alone that was made for another number of classes,
     so that it starts from its initial values, and says so. Inputs are normalised as the weights
     want it: torchvision's by mean 0.485,0.456,0.406 and deviation 0.229,0.224,0.225, but its
     pretrained googlenet and inception_v3 (which have transform_input), and timm's two, by 0.5/0.5.
     The auxiliary heads of googlenet (aux1, aux2, each loss times 0.3) and inception_v3 (AuxLogits,
     0.4) exist with the option `auxiliary`; without it their tensors in a file are extra.

   INSIDE A PROGRAM (examples/ has a small one for each)
     a model in an array   cn_load_memory, cn_load_weights_memory, cn_save_memory
     memory of one's own   cn_network_create_with takes an allocator, which also serves predictors
                           and trainers; or these lie in an array of yours: options.memory, and
                           cn_predictor_size, cn_trainer_size say how large it must be
     any feature map       options.keep names nodes, cn_predictor_feature_map reads them
     gradients of inputs   options.gradients, cn_input_gradient: what drove a prediction
     several inputs        cn_predict_all; all_inputs of cn_batch
     several outputs       cn_predict_all; truths of cn_batch, each a softmax's labels, a sigmoid's
                           targets (several labels a picture), or numbers; cn_trainer_metrics
     threads of one's own  options.parallel

   GLOSSARY
     feature map   what a node delivers for one image: rows x columns x channels
     window        rows x columns that a convolution or a pooling looks at; stride is its step
     dilation      distance between neighbouring taps of a window
     logits        values that go into the final softmax or sigmoid
     fan-in/out    number of inputs/outputs that a weight's unit is connected to
     epoch         one pass over the training data; step: one mini-batch, after which weights change
     unit          an independent piece of a kernel's work

   NUMBERS
     The same seed, options and data give the same bytes on any number of threads: sums are cut by
     the work and added in a fixed order. They do so too for any compiler, level of optimisation,
     processor and operating system with the same instruction set, as products and sums are fused
     only where the source says so (tests/compilers.sh holds gcc, clang, tcc, 64-bit Linux on six
     processors, Windows and WebAssembly against each other), with these exceptions:
       libm          exp, log, pow and cos are the C library's; those of glibc, musl, mingw and
                     Wine agreed in the tests, but no standard makes them
       subnormals    where there is no switch for them (LIMITS) they count as what they are
       more digits   where C's arithmetic keeps more than a float has (FLT_EVAL_METHOD is not 0):
                     32-bit x86 without -mfpmath=sse, s390x with gcc -std=c99
       flags         -ffast-math and -ffp-contract=fast, with clang, allow other results
     The instruction set is chosen at run time on x86: AVX-512 (F, VL, BW, DQ), AVX2 with FMA, or
     scalar; on others when compiling: NEON (AArch64; ARMv7 with its own last digits where it has no
     fused multiply-add), WebAssembly's SIMD128 (wasm128), or scalar. Results of different ones
     differ in the last digits. CONVNET_ISA=scalar|neon|wasm128|avx2|avx512 in the environment caps
     the choice; cn_isa_name() tells it.
     Bounds that the tests assert against a double-precision reference, for inputs of unit scale;
     |got - true| <= bound * (sum of |terms| + 1e-30), see tests/test_kernels.c:
       convolution, dense, all passes   direct 2e-6,  CN_MATH_EXACT 4e-6,  CN_MATH_FAST 2e-5
         (where padding covers all or most of a window, EXACT and FAST err by a share of its
         neighbours' terms instead)
       pooling max/min, ReLU, add, concat   exact;   mean and mixed pooling 1e-6
       exp (in softmax, sigmoid, tanh)  2e-7 relative on each;  losses 1e-6
       batch normalisation 1e-5;   optimisers 1e-6 per step

   THREADS
     A predictor or trainer shares its work among `threads` threads, by default as many as there are
     processors that this process may use; CONVNET_THREADS=n in the environment caps the default.
     They are the header's own: started when first wanted, shared by all predictors and trainers,
     asleep when there is nothing to do, and there until the process ends, so do not unload a
     library that has the implementation in it. A child after fork() starts its own. Programs that
     have a pool of threads lend it to a predictor or trainer: see cn_parallel.
     What may be called from several threads at the same time: anything, on different objects. On
     one network: creating and freeing predictors and trainers, cn_predict by different predictors,
     and the functions that take a const cn_network. Keep apart what changes a network (training,
     loading, initialising, cn_network_touch), or saves it, and all other use of it; and calls
     with the same predictor or trainer.

   CONFIGURATION, defined before the implementation
     CONVNET_STATIC           all functions static (one translation unit, private copy)
     CONVNET_NO_SIMD          scalar kernels only
     CONVNET_NO_AVX512        no AVX-512 kernels (older compilers and assemblers)
     CONVNET_NO_THREADS       starts no threads; all else is the same (so it is on WebAssembly)
     CONVNET_NO_FILES         models in memory only: no paths, nothing is opened
     CONVNET_FILE             what this file is called, if not "convnet.h": it includes itself
     CN_MALLOC(n) CN_FREE(p)  both or none; default malloc and free
     CN_ASSERT(x)             preconditions of kernels; default assert, so NDEBUG turns it off
*/
#ifndef CN_PASS_ /* the implementation includes this file again, once per instruction set */
#ifndef CONVNET_H
#define CONVNET_H

#include <stddef.h>
#include <stdint.h>

#define CONVNET_VERSION "0.1.0"
#define CN_MAX_DIMENSION 65536 /* rows, columns, channels, filters of any tensor */
#define CN_MAX_INPUTS 64       /* inputs of one add or concat node */
#define CN_MAX_NAME 96         /* bytes of a node's name, with the final 0 */

#if defined(CONVNET_STATIC) && (defined(__GNUC__) || defined(__clang__))
#define CN_API static __attribute__((unused)) /* nobody uses all of them */
#elif defined(CONVNET_STATIC)
#define CN_API static
#else
#define CN_API extern
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- basics ---------------------------------------------------------------------------------- */

typedef enum cn_status {
  CN_OK = 0,
  CN_ERROR_ARGUMENT, /* an argument outside its range */
  CN_ERROR_MEMORY,   /* allocation failed or a size overflows */
  CN_ERROR_SYNTAX,   /* a network's text does not follow the grammar */
  CN_ERROR_SHAPE,    /* shapes that do not fit each other */
  CN_ERROR_IO,       /* the operating system refused a file operation */
  CN_ERROR_FORMAT,   /* a file's contents are not what they should be */
  CN_ERROR_NUMERIC   /* a value of a batch, loss, running figure or gradient is not finite */
} cn_status;

/* What went wrong. Functions that can fail take one (NULL is allowed) and fill it on failure
   only. */
typedef struct cn_error {
  cn_status status;
  int line, column;  /* of a network's text, from 1; 0 where they mean nothing */
  char message[320]; /* one line, names the node, tensor, file, line or byte; ends in 0 */
} cn_error;

/* images, rows, columns, channels of a tensor in NHWC order. */
typedef struct cn_shape {
  int count, height, width, channels;
} cn_shape;

typedef enum cn_isa {
  CN_ISA_SCALAR,
  CN_ISA_NEON,
  CN_ISA_WASM128,
  CN_ISA_AVX2,
  CN_ISA_AVX512
} cn_isa;

/* Instruction set in use: the best of this machine, capped by CONVNET_ISA and cn_isa_limit. */
CN_API cn_isa cn_isa_current(void);
CN_API const char *cn_isa_name(void); /* "scalar", "neon", "wasm128", "avx2" or "avx512" */

/* Caps the choice from now on; returns what is in use then. Packed weights, predictors and trainers
   made before belong to the old choice: free them first. For tests and benchmarks; not
   thread-safe. */
CN_API cn_isa cn_isa_limit(cn_isa isa);

/* Counter-based random numbers (splitmix64 of seed and position, Steele et al. 2014): the same seed
   gives the same numbers everywhere. Zero-initialise and set the seed. */
typedef struct cn_random {
  uint64_t seed, position;
} cn_random;
CN_API uint64_t cn_random_bits(cn_random *random);              /* 64 uniform bits */
CN_API uint32_t cn_random_below(cn_random *random, uint32_t n); /* uniform in 0 .. n-1, n >= 1 */
CN_API float cn_random_uniform(cn_random *random);              /* [0, 1), multiples of 2^-24 */
CN_API float cn_random_normal(cn_random *random); /* mean 0, deviation 1 (Box-Muller) */
/* Fisher-Yates, in place. */
CN_API void cn_random_shuffle(cn_random *random, int *values, int count);

/* A caller's pool of threads. run calls task(context, i) once for each i in 0 .. count - 1, on any
   threads, at the same time as far as it can, and returns when all calls have; user is passed
   through. run NULL means the header's own threads. Results are the same either way, even if the
   calls come one after another. */
typedef struct cn_parallel {
  void (*run)(void (*task)(void *context, int i), void *context, int count, void *user);
  void *user;
} cn_parallel;

/* How many threads are used where 0 is asked for: processors that this process may use, at most
   CONVNET_THREADS of the environment; 1 where the header has no threads. */
CN_API int cn_thread_count(void);

/* Calls unit(context, i, thread) once for each i in 0 .. units - 1 and returns when all calls have.
   At most so many threads (0: cn_thread_count()), the calling one among them, each take the next
   unit until there is none left; `thread`, below their number, tells them apart. parallel NULL: the
   header's own threads, which have a stack of 2 MiB. A unit may call this again, and predict and
   train. units is at most 2^30. */
CN_API void cn_parallel_for(const cn_parallel *parallel, int threads, int units,
                            void (*unit)(void *context, int i, int thread), void *context);

/* ---- layer 1: kernels ------------------------------------------------------------------------ */

typedef enum cn_padding { CN_PADDING_ZERO, CN_PADDING_REPLICATE, CN_PADDING_WRAP } cn_padding;

/* The window of a convolution or pooling. Fields that are 0 mean: stride 1, dilation 1, no padding;
   in a pooling node of a network stride 0 means the window's size. */
typedef struct cn_window {
  int height, width;
  int stride_y, stride_x;
  int dilation_y, dilation_x;
  int pad_top, pad_left, pad_bottom, pad_right;
  cn_padding padding; /* what lies outside; pooling ignores it and looks inside only */
  int ceil;           /* pooling: 1 rounds the output size up, so a last window may be cut */
} cn_window;

/* Number of window positions along one side: floor((size + pad_before + pad_after - span) / stride)
   + 1 with span = dilation * (window - 1) + 1; with round_up, ceil in the place of floor, but no
   window may start beyond the input and the padding before it. (Torres & Cantu's equation 1
   misprints it.) Below 1 if the window does not fit. */
CN_API int cn_window_positions(int size, int window, int stride, int dilation, int pad_before,
                               int pad_after, int round_up);

/* How a 3x3 convolution with stride 1 may be computed (other windows are always direct, and so are
   weights' gradients behind a pooling). Errors of results relative to direct summation in float:
   EXACT 0.8, FAST about 2; of weights' gradients, falling with the map's size, EXACT 2 to 0.1, FAST
   5 to 0.3; see NUMBERS above. */
typedef enum cn_math {
  CN_MATH_DEFAULT, /* today FAST */
  CN_MATH_DIRECT,  /* sums of products only */
  CN_MATH_EXACT,   /* Winograd F(2x2, 3x3): about direct's rounding */
  CN_MATH_FAST     /* Winograd F(4x4, 3x3) with points 0, +-1/sqrt(2), +-sqrt(2), infinity; EXACT
                      in a predictor where few places share many filters */
} cn_math;

/* A convolution (cross-correlation, as all CNN libraries have it), optionally followed by ReLU and
   by 2x2 max pooling with stride 2 (an odd last row or column is dropped).
     x  [count][height][width][channels]                weights [kh][kw][channels / groups][filters]
     z = conv(x, weights) + bias;   z = max(z, 0) if relu;   y = maxpool2x2(z) if pool
   groups divides channels and filters; group g reads its share of the channels and writes its share
   of the filters; groups == channels is a depthwise convolution. alone: one thread runs all units
   of a pass, so they are cut for its caches rather than to be shared. */
typedef struct cn_conv2d {
  cn_shape in;
  int filters, groups; /* groups 0 means 1 */
  cn_window window;
  int relu, pool;
  cn_math math;
  int alone;
} cn_conv2d;

/* A dense layer on `rows` vectors: y[rows][outputs] = x[rows][inputs] * weights[inputs][outputs] +
   bias. It is the 1x1 convolution of an image with one row of `rows` pixels, and runs as such. */
CN_API cn_conv2d cn_dense(int rows, int inputs, int outputs, int relu);

/* Checks the convolution and gives y's shape (after pooling). CN_ERROR_ARGUMENT or
   CN_ERROR_SHAPE. */
CN_API cn_status cn_conv2d_output(const cn_conv2d *conv, cn_shape *out, cn_error *error);
CN_API size_t cn_conv2d_weight_count(const cn_conv2d *conv); /* floats in weights */

typedef enum cn_pass { CN_FORWARD, CN_BACKWARD_INPUT, CN_BACKWARD_WEIGHTS } cn_pass;

/* Weights are packed once (per change) for the forward pass and for the backward-input pass:
   `packed` holds cn_conv2d_packed_count floats, 64-byte aligned, and belongs to the instruction set
   in use. CN_BACKWARD_WEIGHTS packs nothing: 0. */
CN_API size_t cn_conv2d_packed_count(const cn_conv2d *conv, cn_pass pass);
CN_API void cn_conv2d_pack(const cn_conv2d *conv, cn_pass pass, const float *weights,
                           float *packed);

/* Independent units of a pass, and bytes of workspace (64-byte aligned) for each concurrent
   caller, enough for fewer images too. A number that would be too large for its type is INT_MAX or
   SIZE_MAX, here and in the counts above and below; where units are INT_MAX, bytes are SIZE_MAX. */
CN_API int cn_conv2d_units(const cn_conv2d *conv, cn_pass pass);
CN_API size_t cn_conv2d_workspace(const cn_conv2d *conv, cn_pass pass);

/* y = conv(x) for units [begin, end). bias [filters] may be NULL. argmax, one byte per value of y,
   is written if pool and argmax != NULL: 0..3 = row * 2 + column of the largest value in its 2x2
   square (the first of equals). */
CN_API void cn_conv2d_forward(const cn_conv2d *conv, const float *x, const float *packed,
                              const float *bias, float *y, uint8_t *argmax, int begin, int end,
                              void *workspace);

/* dx = gradient of the loss with respect to x, overwritten, for units [begin, end). dy is the
   gradient with respect to y; with relu it must already be zero where y is (cn_relu_backward does
   that, in place). argmax is the forward pass's, needed if pool. */
CN_API void cn_conv2d_backward_input(const cn_conv2d *conv, const float *dy, const uint8_t *argmax,
                                     const float *packed, float *dx, int begin, int end,
                                     void *workspace);

/* Gradient of weights and bias, in two steps. Units [begin, end) fill `partial`, which holds
   cn_conv2d_partial_count floats (64-byte aligned, enough for fewer images too); when all are done
   cn_conv2d_sum adds the parts in a fixed order into dweights (as weights) and dbias [filters]
   (NULL if there is none). */
CN_API size_t cn_conv2d_partial_count(const cn_conv2d *conv);
CN_API void cn_conv2d_backward_weights(const cn_conv2d *conv, const float *x, const float *dy,
                                       const uint8_t *argmax, float *partial, int begin, int end,
                                       void *workspace);
CN_API void cn_conv2d_sum(const cn_conv2d *conv, float *partial, float *dweights, float *dbias);

typedef enum cn_pool_kind {
  CN_POOL_MAX,
  CN_POOL_MIN,
  CN_POOL_MEAN,
  CN_POOL_MIX,
  CN_POOL_ADAPTIVE_MEAN
} cn_pool_kind;

/* Pooling, channel by channel. Every window must see some of the image (else CN_ERROR_SHAPE).
   Positions outside the image never count as maximum or minimum; a mean divides by the positions
   inside the image or, with count_padding, inside image and padding. CN_POOL_MIX: mix * max + (1 -
   mix) * mean (Lee, Gallagher & Tu 2016). CN_POOL_ADAPTIVE_MEAN: window.height x window.width is
   the size of the output, whose value i along a side is the mean of the input's values from
   floor(i * in / out) to ceil((i + 1) * in / out) - 1, as PyTorch's adaptive average pooling has
   it; stride, padding and the rest do not count. Unit: one image. */
typedef struct cn_pool2d {
  cn_shape in;
  cn_window window;
  cn_pool_kind kind;
  float mix;
  int count_padding;
} cn_pool2d;
CN_API cn_status cn_pool2d_output(const cn_pool2d *pool, cn_shape *out, cn_error *error);
CN_API void cn_pool2d_forward(const cn_pool2d *pool, const float *x, float *y, int begin, int end);
/* dx is overwritten. The gradient of a maximum goes to the first of equal values; x as it was
   forward. */
CN_API void cn_pool2d_backward(const cn_pool2d *pool, const float *x, const float *dy, float *dx,
                               int begin, int end);

/* Element-wise kernels on n values; y may be x, dx may be dy. Backward takes the forward's result
   y. tanh x = 2 / (1 + exp(-2x)) - 1 (Torres & Cantu's appendix drops the -1). */
CN_API void cn_relu_forward(const float *x, float *y, size_t n);
/* dx = scale * dy where y > 0, else 0 */
CN_API void cn_relu_backward(const float *y, const float *dy, float scale, float *dx, size_t n);
CN_API void cn_sigmoid_forward(const float *x, float *y, size_t n);
CN_API void cn_sigmoid_backward(const float *y, const float *dy, float *dx, size_t n);
CN_API void cn_tanh_forward(const float *x, float *y, size_t n);
CN_API void cn_tanh_backward(const float *y, const float *dy, float *dx, size_t n);
CN_API void cn_add(const float *a, const float *b, float *y, size_t n); /* y may be a or b */
/* y = factor * x; y may be x. Backward is the same on the gradient. */
CN_API void cn_scale(const float *x, float factor, float *y, size_t n);

/* Dropout of values [begin, end) of a tensor: keeps each with probability 1 - rate, scaled by
   1 / (1 - rate), else 0. The choice depends on seed and position only, so the backward pass is the
   same call on the gradient. 0 <= rate < 1, begin a multiple of 4; y may be x. */
CN_API void cn_dropout(const float *x, float *y, size_t begin, size_t end, float rate,
                       uint64_t seed);

/* Copies `rows` runs of `channels` values between tensors with x_pitch and y_pitch values per row.
   Concatenation writes each input beside the others; its backward reads them back. */
CN_API void cn_copy_channels(const float *x, size_t x_pitch, float *y, size_t y_pitch, size_t rows,
                             size_t channels);

/* Batch normalisation of x [rows][channels] (Ioffe & Szegedy 2015):
     y = (x - mean) / sqrt(variance + eps) * scale + shift
   Training uses the batch's own mean and (biased) variance, and moves the running figures: running
   = (1 - momentum) * running + momentum * batch, the variance there unbiased, as PyTorch does. */
typedef struct cn_batchnorm {
  size_t rows; /* count * height * width */
  int channels;
  const float *scale, *shift;      /* [channels], as all that follow */
  float *mean, *inverse_deviation; /* 1 / sqrt(variance + eps); written by cn_batchnorm_finish */
  float *running_mean, *running_variance; /* cn_batchnorm_finish moves them; NULL: there are none */
  float eps, momentum;
  int relu;   /* y = max(y, 0) */
  int frozen; /* mean and deviation are fixed, as in inference: backward dx = dy * scale *
                 inverse_deviation */
} cn_batchnorm;

/* The calls of a training pass, each for [begin, end): statistics per part of CN_STATISTICS_ROWS
   rows, summed in float and the parts in double (sums holds 2 * channels doubles a part); finish
   once; then rows. y may be x. */
#define CN_STATISTICS_ROWS 512
CN_API int cn_batchnorm_parts(size_t rows);
CN_API void cn_batchnorm_statistics(const cn_batchnorm *norm, const float *x, double *sums,
                                    int begin, int end);
CN_API void cn_batchnorm_finish(const cn_batchnorm *norm, const double *sums);
CN_API void cn_batchnorm_forward(const cn_batchnorm *norm, const float *x, float *y,
                                 size_t begin_row, size_t end_row);
/* Backward in the same three calls: per part the sums of dy and of dy * normalised x; then dscale
   and dshift [channels] (= those sums); then dx for rows, dx may be dy. */
CN_API void cn_batchnorm_backward_sums(const cn_batchnorm *norm, const float *x, const float *dy,
                                       double *sums, int begin, int end);
CN_API void cn_batchnorm_backward_finish(const cn_batchnorm *norm, const double *sums,
                                         float *dscale, float *dshift);
CN_API void cn_batchnorm_backward(const cn_batchnorm *norm, const float *x, const float *dy,
                                  const float *dscale, const float *dshift, float *dx,
                                  size_t begin_row, size_t end_row);

/* softmax of each row: p = exp(x - max) / sum; p may be x. */
CN_API void cn_softmax(const float *x, float *p, size_t rows, int classes);

/* Losses. Each returns the sum over rows [begin, end) and writes gradient = d(loss *
   scale)/dlogits, which may be the logits. For the mean over n rows pass scale = 1/n. class_weights
   [classes] or NULL: each row counts with the weight of its label.
     softmax cross-entropy   -log p[label],  p = softmax(logits)
     sigmoid cross-entropy   -t log s - (1 - t) log(1 - s),  s = sigmoid(logit), targets t in [0, 1]
     squared error           (y - t)^2 / 2 summed over the row's values
   probabilities (softmax, sigmoid, or y) are written if not NULL. */
CN_API double cn_softmax_loss(const float *logits, const int *labels, const float *class_weights,
                              int classes, float scale, float *probabilities, float *gradient,
                              size_t begin, size_t end);
CN_API double cn_sigmoid_loss(const float *logits, const float *targets, int classes, float scale,
                              float *probabilities, float *gradient, size_t begin, size_t end);
CN_API double cn_squared_loss(const float *y, const float *targets, int classes, float scale,
                              float *gradient, size_t begin, size_t end);

typedef enum cn_optimizer { CN_ADAM, CN_ADAMW, CN_SGD, CN_ADAGRAD } cn_optimizer;

/* One update of n weights w from their gradients g. first and second are the optimiser's memory,
   zero before the first step. step counts from 1. l1 and l2 add l1 * sign(w) + l2 * w to g first.
     CN_SGD      first = momentum * first + g; w -= lr * (nesterov ? g + momentum * first : first)
     CN_ADAGRAD  second += g^2; w -= lr * g / (sqrt(second) + epsilon)        (Duchi et al. 2011)
     CN_ADAM     first = beta1 first + (1 - beta1) g; second = beta2 second + (1 - beta2) g^2;
                 w -= lr * (first / (1 - beta1^step)) / (sqrt(second / (1 - beta2^step)) + epsilon)
     CN_ADAMW    Adam after w -= lr * decay * w                        (Loshchilov & Hutter 2019) */
typedef struct cn_update {
  cn_optimizer optimizer;
  float learning_rate, momentum, beta1, beta2, epsilon, decay, l1, l2;
  int nesterov;
  int64_t step;
} cn_update;
CN_API void cn_update_weights(const cn_update *update, float *w, const float *g, float *first,
                              float *second, size_t n);

typedef enum cn_init_kind {
  CN_INIT_GLOROT,
  CN_INIT_HE,
  CN_INIT_GAUSSIAN,
  CN_INIT_CONSTANT
} cn_init_kind;

/* Fills w: GLOROT U(-a, a), a = sqrt(6 / (fan_in + fan_out)) (Glorot & Bengio 2010; the paper drops
   the root); HE N(0, sqrt(2 / fan_in)) (He et al. 2015); GAUSSIAN N(0, value); CONSTANT value. */
CN_API void cn_init(cn_init_kind kind, float value, int fan_in, int fan_out, cn_random *random,
                    float *w, size_t n);

/* ---- layer 2: networks ----------------------------------------------------------------------- */

typedef enum cn_op {
  CN_OP_INPUT,
  CN_OP_CONV,
  CN_OP_DENSE,
  CN_OP_MAXPOOL,
  CN_OP_MINPOOL,
  CN_OP_MEANPOOL,
  CN_OP_MIXPOOL,
  CN_OP_GLOBALMEAN,
  CN_OP_ADAPTIVEMEAN,
  CN_OP_RELU,
  CN_OP_SIGMOID,
  CN_OP_TANH,
  CN_OP_SCALE,
  CN_OP_BATCHNORM,
  CN_OP_DROPOUT,
  CN_OP_ADD,
  CN_OP_CONCAT,
  CN_OP_SOFTMAX
} cn_op;

/* A node of the graph. Start from cn_node_defaults(op) and set what the op needs (see NETWORKS AS
   TEXT): CONV filters, window, groups, bias, init; DENSE filters (= outputs), bias, init; pools
   window, mix, count_padding; ADAPTIVEMEAN window (rows and columns of its output); INPUT shape;
   SCALE factor; BATCHNORM eps, momentum; DROPOUT rate; SOFTMAX loss_weight; an output beside the
   last node output_weight. */
typedef struct cn_node {
  cn_op op;
  char name[CN_MAX_NAME];    /* "" asks for a default; letters, digits, _ . - */
  int inputs[CN_MAX_INPUTS]; /* indices of earlier nodes */
  int input_count;           /* 0 asks for the node added last */
  int filters, groups, bias;
  cn_window window;
  float mix, eps, momentum, rate, factor, loss_weight, output_weight;
  int count_padding;
  cn_init_kind init;
  float init_value;
  cn_shape shape; /* of the output for one image (count 1); set by cn_network_add */
} cn_node;

typedef struct cn_network cn_network; /* a graph, its parameters and its notes */

CN_API cn_node cn_node_defaults(cn_op op);

/* Where the memory of a network comes from, and that of the predictors and trainers made for it;
   reading a file takes what it needs for itself by CN_MALLOC. Both functions, or none for CN_MALLOC
   and CN_FREE. They are called by whoever makes or frees something, in whichever thread. */
typedef struct cn_allocator {
  void *(*allocate)(size_t bytes, void *user); /* aligned as malloc aligns; NULL: there is none */
  void (*release)(void *memory, void *user);   /* never called with NULL */
  void *user;
} cn_allocator;

/* An empty network, or NULL (out of memory). Freed with cn_network_free. The allocator is copied;
   what it points to must outlive the network. */
CN_API cn_network *cn_network_create(cn_error *error);
CN_API cn_network *cn_network_create_with(const cn_allocator *allocator, cn_error *error);
CN_API void cn_network_free(cn_network *net); /* NULL is allowed */

/* Adds a copy of the node, checks it and infers its shape; its parameters are initialised from seed
   1 (cn_network_init takes another one). Returns its index, or -1 with an error that names the
   node. The network then is as it was before. Not while a predictor or trainer exists. */
CN_API int cn_network_add(cn_network *net, const cn_node *node, cn_error *error);

/* Adds the nodes of a text (grammar above) in the same way. An error has line and column, and the
   network is as it was before. */
CN_API cn_status cn_network_add_text(cn_network *net, const char *text, cn_error *error);

/* A network from text, or NULL with an error. */
CN_API cn_network *cn_network_parse(const char *text, cn_error *error);

/* Built-in networks, by the names that torchvision and timm give them (see NETWORKS BY NAME).
   cn_arch_name lists them; NULL ends. Options: zero means the network's own. */
typedef struct cn_arch_options {
  int height, width, channels; /* of the input */
  int classes;                 /* outputs of the last layer */
  int auxiliary;               /* 1: with auxiliary heads (googlenet, inception_v3) */
} cn_arch_options;
CN_API const char *cn_arch_name(int index);

/* The text of a built-in network: returns its length without the final 0 and writes as much of it
   as fits into `text`, with a final 0, as snprintf does; with capacity 0 text may be NULL. options
   may be NULL. 0 with an error: unknown name, a size that the network does not allow. */
CN_API size_t cn_arch_text(const char *name, const cn_arch_options *options, char *text,
                           size_t capacity, cn_error *error);

/* The network itself, with parameters initialised from seed 1, or NULL with an error. */
CN_API cn_network *cn_arch_network(const char *name, const cn_arch_options *options,
                                   cn_error *error);

/* The network's text in canonical form: parsing it gives the same graph. Owned by the network,
   valid until the next cn_network_add. NULL when out of memory. */
CN_API const char *cn_network_text(cn_network *net);

CN_API int cn_network_node_count(const cn_network *net);
CN_API const cn_node *cn_network_node(const cn_network *net,
                                      int index);                    /* NULL outside the range */
CN_API int cn_network_find(const cn_network *net, const char *name); /* index or -1 */

/* Index of the node that is input or output number `number` (from 0, in the order of the nodes; the
   last node is the last output), -1 behind the last. Their shapes are the nodes'. */
CN_API int cn_network_input(const cn_network *net, int number);
CN_API int cn_network_output(const cn_network *net, int number);

/* Fills all parameters: weights by their node's init, biases 0, batch-norm scale 1, shift 0,
   running mean 0, running variance 1. The same seed gives the same values. */
CN_API void cn_network_init(cn_network *net, uint64_t seed);

/* A parameter tensor: values in this library's order (conv [kh][kw][ci/groups][filters], dense
   [rows][columns][channels][outputs]), dims in PyTorch's (OIHW; out, in). trained is 0 for running
   figures and for frozen tensors. */
typedef struct cn_parameter {
  const char *name; /* "conv1.weight"; owned by the network */
  float *values;    /* count floats; owned by the network */
  size_t count;
  int rank, dims[4];
  int node; /* index of the node it belongs to */
  int trained;
} cn_parameter;
CN_API int cn_network_parameter_count(const cn_network *net);               /* tensors */
CN_API cn_parameter cn_network_parameter(const cn_network *net, int index); /* name NULL outside */
CN_API size_t cn_network_weight_count(const cn_network *net); /* trainable values in all tensors */

/* Tell the network that you changed values through cn_parameter: predictors and trainers repack. */
CN_API void cn_network_touch(cn_network *net);

/* Freezes the first `layers` nodes that have parameters (0: none, thaws all), or the nodes whose
   name, with a point behind it, starts with prefix (so "layer1." leaves layer10.0 alone). Frozen
   nodes keep their weights; frozen batch norm uses and keeps its running figures. Returns the
   number of frozen nodes. Before cn_trainer_create. */
CN_API int cn_network_freeze(cn_network *net, int layers);
CN_API int cn_network_freeze_named(cn_network *net, const char *prefix);

/* Gives a node's parameters a learning rate of their own: factor (default 1) times the trainer's,
   in every step of its schedule; decay of AdamW goes with it. A new last layer often wants a larger
   one than the layers below it. Files do not keep it. Before cn_trainer_create. CN_ERROR_ARGUMENT
   for a node without parameters or a factor outside [0, 1e6). */
CN_API cn_status cn_network_scale_rate(cn_network *net, int node, float factor, cn_error *error);

/* Notes are short texts that travel with the network in its file: class names, normalisation, ...
   Keys are letters, digits, _ . - (not "network" nor "__metadata__", and none that begins with
   "optimizer."), values UTF-8; NULL as value removes. Get returns NULL if absent, else a text owned
   by the network until the next set. */
CN_API cn_status cn_network_set_note(cn_network *net, const char *key, const char *value,
                                     cn_error *error);
CN_API const char *cn_network_note(const cn_network *net, const char *key);

/* Inference. Options: zero means default. */
typedef struct cn_predict_options {
  int threads; /* 0: cn_thread_count() */
  cn_math math;
  cn_parallel parallel;
  int logits;      /* 1: outputs are what goes into a last softmax or sigmoid */
  int gradients;   /* 1: cn_input_gradient may be called; takes more memory */
  const int *keep; /* [keep_count] nodes whose feature maps can be read afterwards */
  int keep_count;
  void *memory; /* the plan lies here, in cn_predictor_size bytes; NULL: it is allocated */
  size_t memory_bytes;
} cn_predict_options;
typedef struct cn_predictor cn_predictor;

/* A plan for up to max_count images at a time; NULL with an error. It refers to the network, which
   must outlive it and may be shared by several predictors, in several threads; it repacks weights
   when they have changed. */
CN_API cn_predictor *cn_predictor_create(cn_network *net, int max_count,
                                         const cn_predict_options *options, cn_error *error);
/* Bytes that such a plan needs in memory of the caller's; 0 with an error. */
CN_API size_t cn_predictor_size(cn_network *net, int max_count, const cn_predict_options *options,
                                cn_error *error);
CN_API void cn_predictor_free(cn_predictor *predictor); /* not the caller's memory */

/* Runs count images (any number; done max_count at a time), inputs [count][h][w][c], and writes the
   last node's output [count][values], with softmax or sigmoid applied where the network ends in
   one. A network of several inputs takes cn_predict_all; here its output would be NaN. */
CN_API void cn_predict(cn_predictor *predictor, const float *inputs, int count, float *outputs);

/* The same for all inputs and outputs, an array each, in the order of cn_network_input and
   cn_network_output. An output that is NULL is not written. */
CN_API void cn_predict_all(cn_predictor *predictor, const float *const *inputs, int count,
                           float *const *outputs);

/* Gradient of a number that depends on the outputs with respect to the inputs, in inference mode
   (running figures, no dropout): output_gradients[i] [count][values] is the number's derivative by
   output i as cn_predict_all writes it, NULL for zeros; input_gradients[i] [count][h][w][c] is
   overwritten, NULL where it is not wanted. outputs as in cn_predict_all, or NULL. For the gradient
   of one output value let its derivative be 1 and all others 0. CN_ERROR_ARGUMENT if the predictor
   was made without the option. */
CN_API cn_status cn_input_gradient(cn_predictor *predictor, const float *const *inputs, int count,
                                   const float *const *output_gradients, float *const *outputs,
                                   float *const *input_gradients, cn_error *error);

CN_API int cn_predictor_outputs(const cn_predictor *predictor);  /* values per image, last node */
CN_API size_t cn_predictor_bytes(const cn_predictor *predictor); /* memory it holds */

/* A kept node's feature maps for the last images of the last call (at most max_count of them,
   [h][w][c] each, owned by the predictor); NULL for other nodes. */
CN_API const float *cn_predictor_feature_map(const cn_predictor *predictor, int node);

/* ---- layer 3: training ----------------------------------------------------------------------- */

typedef enum cn_schedule { CN_SCHEDULE_CONSTANT, CN_SCHEDULE_STEP, CN_SCHEDULE_COSINE } cn_schedule;

/* Called after the gradients of a step are complete and before they are used: where a distributed
   all-reduce plugs in. The array holds all tensors' gradients one behind the other, with zeros
   between them and in the place of what is not trained. A non-zero return stops the step with
   CN_ERROR_ARGUMENT. */
typedef int (*cn_gradient_hook)(float *gradients, size_t count, void *user);

typedef struct cn_training_options {
  cn_optimizer optimizer; /* default CN_ADAM */
  float learning_rate;    /* default 0.001 */
  float momentum;         /* SGD; default 0 */
  int nesterov;
  float beta1, beta2;   /* default 0.9, 0.999 */
  float epsilon;        /* default 1e-7 (Keras), also for Adagrad */
  float decay;          /* AdamW; on weights, not on biases and batch norm */
  float l1, l2;         /* penalty l1 |w| + l2 w^2 / 2 on weights, not on biases and batch norm */
  float clip_norm;      /* > 0: gradients are scaled down to this Euclidean norm */
  cn_schedule schedule; /* CN_SCHEDULE_CONSTANT */
  int64_t warmup_steps; /* learning rate rises linearly over this many steps */
  int64_t decay_steps;  /* STEP: steps between multiplications by gamma; COSINE: steps to reach 0 */
  float gamma;          /* STEP; default 0.1 */
  const float *class_weights; /* [classes] of the last node's softmax, copied; NULL: all 1 */
  uint64_t seed;              /* of dropout; default 1 */
  int threads;                /* 0: cn_thread_count() */
  cn_math math;
  cn_gradient_hook gradient_hook;
  void *hook_user;
  cn_parallel parallel;
  void *memory; /* as in cn_predict_options, of cn_trainer_size bytes */
  size_t memory_bytes;
} cn_training_options;
CN_API cn_training_options cn_training_defaults(void);

/* Learning rate of a step counted from 1 (what is below counts as 1), by warm-up and schedule. */
CN_API float cn_learning_rate(const cn_training_options *options, int64_t step);

/* What one output is to learn. */
typedef struct cn_truth {
  const int *labels;    /* softmax: [count], 0 .. classes - 1 */
  const float *targets; /* sigmoid and squared error: [count][values] */
} cn_truth;

typedef struct cn_batch {
  int count;           /* 1 .. max_count of the trainer */
  const float *inputs; /* [count][h][w][c] */
  const int *labels;   /* the last node's truth: one of these two */
  const float *targets;
  const float *const *all_inputs; /* several inputs: one each, instead of inputs */
  const cn_truth *truths;         /* several outputs: one each, instead of the two */
} cn_batch;

typedef struct cn_metrics {
  double loss; /* mean over the batch, without penalties; of all heads, each by its weight */
  int correct; /* at the last node: rows whose largest output is the label (softmax), or whose
                  outputs all lie on their target's side of 0.5 (sigmoid); 0 for squared error */
} cn_metrics;

typedef struct cn_trainer cn_trainer;

/* A plan for training on batches of up to max_count images, or NULL with an error. The network must
   outlive it. All memory is taken here; steps allocate nothing. */
CN_API cn_trainer *cn_trainer_create(cn_network *net, int max_count,
                                     const cn_training_options *options, cn_error *error);
/* Bytes that such a plan needs in memory of the caller's; 0 with an error. */
CN_API size_t cn_trainer_size(cn_network *net, int max_count, const cn_training_options *options,
                              cn_error *error);
CN_API void cn_trainer_free(cn_trainer *trainer); /* not the caller's memory */

/* One step: forward, backward, update. CN_ERROR_ARGUMENT for a bad batch (label out of range,
   count, one image where a batch normalisation that trains sees maps of 1x1), for a learning rate outside [0, 1e6), or by the gradient hook; CN_ERROR_NUMERIC for a
   value of the batch, a loss, a running figure or a gradient that is not finite, or a gradient of
   2^48 or more that is not clipped (the message has the image, or step and learning rate). Then
   nothing has changed: weights, running figures, the optimiser's state, the number of steps. */
CN_API cn_status cn_train_step(cn_trainer *trainer, const cn_batch *batch, cn_metrics *metrics,
                               cn_error *error);

/* The gradients of a batch without the update, for tests and own optimisers; nothing of the network
   changes. Fails as cn_train_step does, but for large gradients. Read them with
   cn_trainer_gradient. */
CN_API cn_status cn_train_gradients(cn_trainer *trainer, const cn_batch *batch, cn_metrics *metrics,
                                    cn_error *error);
/* Gradient of parameter tensor number `parameter` (count values, its layout) from the last step;
   NULL if it is not trained. */
CN_API const float *cn_trainer_gradient(const cn_trainer *trainer, int parameter);

/* Loss (not weighted) and correct rows of output number `output` in the last step. */
CN_API cn_metrics cn_trainer_metrics(const cn_trainer *trainer, int output);

CN_API int64_t cn_trainer_steps(const cn_trainer *trainer); /* steps done, checkpoints included */
CN_API size_t cn_trainer_bytes(const cn_trainer *trainer);  /* memory it holds */
CN_API void cn_trainer_set_learning_rate(cn_trainer *trainer, float learning_rate);

/* Stops when a figure has not improved for `patience` checks. Zero-initialise and set patience. */
typedef struct cn_early_stopping {
  int patience;
  int checks, best_check; /* done; index (from 1) of the best, 0 before the first */
  double best;
} cn_early_stopping;
/* Reports a loss (smaller is better). Returns 1 if it is the best so far, -1 if it is time to stop,
   else 0. */
CN_API int cn_early_stopping_check(cn_early_stopping *stopping, double loss);

/* ---- layer 4: files -------------------------------------------------------------------------- */

/* A model is the same bytes in a file and in memory: a safetensors file with the network's text,
   parameters and notes. Saving what was loaded gives the same bytes, on machines of any byte
   order. */

/* Writes a model into buffer if it fits into capacity bytes; returns how many it takes, 0 with an
   error. With capacity 0 buffer may be NULL. */
CN_API size_t cn_save_memory(cn_network *net, void *buffer, size_t capacity, cn_error *error);

/* A network from such bytes, an array in the program for instance (xxd -i makes one of a file), or
   NULL. They are not needed afterwards. */
CN_API cn_network *cn_load_memory(const void *bytes, size_t size, cn_error *error);

typedef enum cn_mismatch { CN_TENSOR_MISSING, CN_TENSOR_EXTRA, CN_TENSOR_SHAPE } cn_mismatch;
typedef void (*cn_mismatch_report)(cn_mismatch kind, const char *tensor, const char *details,
                                   void *user);

/* Loads parameters by name from any safetensors file, F32, F16 or BF16, for instance a torchvision
   state dict saved as safetensors (its num_batches_tracked counters do not matter). Strict: a
   missing or misshapen tensor is an error and nothing is changed; what is extra in the file is not
   used. With `report` not NULL the rest is loaded and report is called once per tensor that is
   missing, extra or misshapen; the network's own tensors among them stay as they are. Returns the
   number of tensors loaded, -1 on error. */
CN_API int cn_load_weights_memory(cn_network *net, const void *bytes, size_t size,
                                  cn_mismatch_report report, void *user, cn_error *error);

/* The format below them: https://github.com/huggingface/safetensors. */
typedef enum cn_dtype { CN_F32, CN_F16, CN_BF16, CN_OTHER } cn_dtype;
typedef struct cn_tensor {
  const char *name;
  cn_dtype dtype;
  int rank;
  int64_t dims[8];
  const void *data; /* little-endian values, row-major, perhaps unaligned */
  size_t bytes;
  char dtype_name[16]; /* as the file has it, cut if need be; not looked at where one is written */
} cn_tensor;
typedef struct cn_note {
  const char *key, *value;
} cn_note;

/* What a file holds, every offset checked: inside the file, no overlap, no hole, sizes that match
   dtype and shape, where the dtype is known. */
typedef struct cn_safetensors {
  cn_tensor *tensors; /* in the file's order of data */
  int tensor_count;
  cn_note *notes;
  int note_count;
} cn_safetensors;

/* NULL with an error that names the place. Tensors point into the bytes, which are not copied and
   must outlive what is returned. */
CN_API cn_safetensors *cn_safetensors_read_memory(const void *bytes, size_t size, cn_error *error);
CN_API void cn_safetensors_free(cn_safetensors *file);
CN_API const cn_tensor *cn_safetensors_find(const cn_safetensors *file,
                                            const char *name);                       /* or NULL */
CN_API const char *cn_safetensors_note(const cn_safetensors *file, const char *key); /* or NULL */

#ifndef CONVNET_NO_FILES
/* The same with files. One that is written appears whole or not at all: it is written beside its
   place as NAME.PROCESS-NUMBER.part, synchronised and renamed. A symbolic link stays, and what it
   points to is replaced; a file's permissions stay as they are; what is no regular file, as a pipe
   or /dev/null, is written into. Where the system can do so, files are mapped rather than read:
   while one of these functions runs, and until cn_safetensors_free, no other program should change
   the file in place, or values change with it; if it is cut, the system ends the program (SIGBUS).
   Replacing it as these functions do is safe. */
CN_API cn_status cn_save(cn_network *net, const char *path, cn_error *error);
CN_API cn_network *cn_load(const char *path, cn_error *error);
CN_API int cn_load_weights(cn_network *net, const char *path, cn_mismatch_report report, void *user,
                           cn_error *error);
CN_API cn_safetensors *cn_safetensors_read(const char *path, cn_error *error);

/* Writes F32 tensors in the given order with metadata. CN_ERROR_ARGUMENT for what could not be read
   back: names and notes that are not UTF-8 or stand there twice, a tensor "__metadata__", more than
   8 dimensions, data that is missing or not of its shape's size. */
CN_API cn_status cn_safetensors_write(const char *path, const cn_tensor *tensors, int tensor_count,
                                      const cn_note *notes, int note_count, cn_error *error);

/* A checkpoint holds the network and the optimiser's memory and step; resuming from it continues as
   if nothing had happened. Notes travel as with cn_save. The network must be the same. */
CN_API cn_status cn_trainer_save(cn_trainer *trainer, const char *path, cn_error *error);
CN_API cn_status cn_trainer_load(cn_trainer *trainer, const char *path, cn_error *error);
#endif

#ifdef __cplusplus
}
#endif
#endif /* CONVNET_H */

/* If you only want to use the library you can stop reading here. */

/* MAP OF THE IMPLEMENTATION, in the order in which it stands. Search for the name behind "====".

   basics             errors, sizes that cannot wrap around, memory, random numbers
   threads            the pool, and work shared by threads
   instruction sets   what kernels are asked for (structs), the table of kernels, matrix tiles, and
                      which of them this processor runs
   layer 1: kernels   convolution: what follows from its shapes, how weights are packed, and its
                      three passes; pooling, batch normalisation, losses
   layer 2: networks  text, shapes, nodes, built-in networks, parameters, notes
   plans              the graph as steps over buffers of one arena; steps forward and backward;
                      prediction, and gradients of inputs
   layer 3: training  losses of all heads, what must be finite, the update
   layer 4: files     safetensors, written and read; models and checkpoints
   kernels            the innermost loops, over vectors of any length: this file includes itself for
                      each instruction set, which is why they stand at its end

   It is one file because one file is what is copied into a project. Cut into parts that a script
   joins, every line would be there twice, and one of the two the wrong one to change.

   ONE CONVOLUTION, from the call to the inner loop
     cn_predict            takes max_count images at a time through cn_forward_,
     cn_step_forward_      which runs the plan's steps. A convolution, with the ReLU and the 2x2
                           pooling behind it, is one step, cut into units by cn_conv2d_units;
     cn_parallel_          hands these to threads, each with a workspace of its own.
     cn_conv2d_forward     does a unit by the algorithm that cn_algorithm_of_ chose. Direct sums:
     cn_forward_direct_    pads the unit's rows into the workspace; lists where the windows' rows
                           begin ("segments": runs of the summed index whose values lie side by
                           side); and asks, row by row, for one matrix product: pixels x (window, channel)
                           times (window, channel) x filters.
     cn_product_           (kernels) cuts that into tiles of rows x vectors that fit the registers.
     CN_PRODUCT_TILE_      the inner loop: broadcasts one input value, multiplies it with `vectors`
                           vectors of packed weights, adds to the sums, for each of the tile's rows.
   By Winograd (cn_winograd_unit_) a unit's patches are transformed (cn_winograd_patches_),
   multiplied by the same cn_product_, position by position, and transformed back, where bias, ReLU
   and pooling are done (cn_winograd_results_).

   WORDS FOR WHAT IS CUT, from large to small
     slice   some images of a batch, which one thread takes through the first steps of a plan
     unit    what a thread takes of one kernel's work at a time; no unit depends on another
     part    a sum over some of the images or rows; parts are added in order, whoever made them
     block   some rows, channels or filters of a matrix, where images alone make too few units
     share   Winograd: the tiles that are transformed and multiplied together
     chunk   CN_CHUNK_ values of element-wise work

   SPECIAL PATHS, each with what a step of training (T) or an inference (I) takes without it,
   batches of 200, one thread of an Intel Xeon with AVX-512 (gcc 12.2 -O2, medians of 11 rounds;
   batch 1: of 9)
     CN_GREY_, forward, first layer on grey pictures          base T 1.05, I 1.15; revised I 1.07
     CN_FEW_, weights' gradient, few channels, behind pooling base T 1.11; revised T 0.99
       the same for one channel by permutations (cn_few_grey_)  base T 1.08
     CN_SPARSE_, weights' gradient behind pooling             base T 1.24; revised T 1.35
     flat sparse, dense gradients that are mostly zero        base T 1.15
     tiles of mixed sizes (cn_winograd_mixes_)                base T 1.13, I 1.12; revised I 1.09
     slices (cn_plan_slices_)                                 base T 1.07, I 1.05; revised I 1.09
     wide, few rows over several panels (CN_PRODUCT_WIDE_)    base, batch 1, I 1.14 */

#if defined(CONVNET_IMPLEMENTATION) && !defined(CN_IMPLEMENTED_)
#define CN_IMPLEMENTED_

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Compilers that can be told more than the language has; others, as tcc, get the scalar kernels. */
#if defined(__clang__) /* clang-cl among them */
#define CN_CLANG_
#elif defined(__GNUC__) && !defined(__TINYC__)
#define CN_GCC_
#elif defined(_MSC_VER)
#define CN_MSC_
#endif

/* Processors with kernels of their own. */
#if defined(CONVNET_NO_SIMD) || !(defined(CN_CLANG_) || defined(CN_GCC_) || defined(CN_MSC_))
#elif defined(__x86_64__) || defined(__i386__) || defined(_M_X64)
#define CN_X86_
#elif defined(__aarch64__) || defined(__ARM_NEON) || defined(_M_ARM64)
#define CN_ARM_
#if defined(__aarch64__) || defined(_M_ARM64)
#define CN_ARM64_
#endif
#elif defined(__wasm_simd128__)
#define CN_WASM_
#endif

/* Processors that can take subnormal numbers for zero, whatever the kernels. */
#if (defined(CN_CLANG_) || defined(CN_GCC_)) && defined(__SSE2__) ||                               \
    defined(CN_MSC_) && (defined(_M_X64) || defined(_M_IX86))
#define CN_SSE_
#include <emmintrin.h>
#elif defined(CN_MSC_) && defined(_M_ARM64)
#define CN_READ_FPCR_(mode) (void)((mode) = (size_t)_ReadStatusReg(ARM64_FPCR))
#define CN_WRITE_FPCR_(mode) _WriteStatusReg(ARM64_FPCR, (__int64)(mode))
#elif (defined(CN_CLANG_) || defined(CN_GCC_)) && defined(__aarch64__)
#define CN_READ_FPCR_(mode) __asm__ volatile("mrs %0, fpcr" : "=r"(mode))
#define CN_WRITE_FPCR_(mode) __asm__ volatile("msr fpcr, %0" : : "r"(mode))
#elif (defined(CN_CLANG_) || defined(CN_GCC_)) && defined(__ARM_FP) && !defined(__SOFTFP__)
#define CN_READ_FPCR_(mode) __asm__ volatile("vmrs %0, fpscr" : "=r"(mode))
#define CN_WRITE_FPCR_(mode) __asm__ volatile("vmsr fpscr, %0" : : "r"(mode))
#endif

#ifdef CN_MSC_
#include <intrin.h>
#endif
#ifdef CN_X86_
#include <immintrin.h>
#ifndef CN_MSC_
#include <cpuid.h>
#endif
#if defined(CN_CLANG_) && defined(_MSC_VER) /* there immintrin.h has only what flags ask for */
#include <nmmintrin.h>
/* In this order: the later ones use what the first ones define. */
#include <avxintrin.h>
#include <avx2intrin.h>
#include <fmaintrin.h>
#ifndef CONVNET_NO_AVX512
#include <avx512fintrin.h>
#include <avx512bwintrin.h>
#include <avx512dqintrin.h>
#include <avx512vlintrin.h>
#include <avx512vlbwintrin.h>
#include <avx512vldqintrin.h>
#endif
#endif
#elif defined(CN_ARM_)
#include <arm_neon.h>
#elif defined(CN_WASM_)
#include <wasm_simd128.h>
#endif

#if !defined(CONVNET_NO_THREADS) && !defined(__wasm__) &&                                          \
    (defined(__GNUC__) || defined(__clang__) || defined(_MSC_VER))
#if defined(_WIN32)
#define CN_THREADS_
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#elif defined(__unix__) || defined(__APPLE__)
#define CN_THREADS_
#include <pthread.h>
#include <unistd.h>
#endif
#endif

#if defined(CN_MALLOC) != defined(CN_FREE)
#error "define both of CN_MALLOC and CN_FREE or neither"
#endif
#ifndef CN_MALLOC
#define CN_MALLOC(n) malloc(n)
#define CN_FREE(p) free(p)
#endif
#ifndef CN_ASSERT
#include <assert.h>
#define CN_ASSERT(x) assert(x)
#endif

#ifndef CONVNET_FILE
#define CONVNET_FILE "convnet.h"
#endif

#if defined(CN_CLANG_) || defined(CN_GCC_)
#define CN_ALWAYS_INLINE_ inline __attribute__((always_inline))
#define CN_NOINLINE_ __attribute__((noinline))
#elif defined(CN_MSC_)
#define CN_ALWAYS_INLINE_ __forceinline
#define CN_NOINLINE_ __declspec(noinline)
#else
#define CN_ALWAYS_INLINE_ inline
#define CN_NOINLINE_
#endif

#define CN_ALIGNMENT_ 64 /* bytes: a cache line and the widest vector */
#define CN_ALIGN_FLOATS_ 16

/* A product and a sum become one operation, with one rounding, where cn_vfma_ says so and nowhere
   else, or the bytes of results would be the compiler's choice. Nor may it take for granted that
   there are no infinities, or reorder sums (-ffast-math). */
#if defined(CN_CLANG_)
#if defined(__FAST_MATH__) || defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#define CN_CLANG_FAST_
#pragma float_control(push)
#pragma float_control(precise, on)
#endif
#pragma STDC FP_CONTRACT OFF
#elif defined(CN_GCC_)
#pragma GCC push_options
#pragma GCC optimize("no-fast-math", "no-finite-math-only", "no-unsafe-math-optimizations")
#pragma GCC optimize("fp-contract=off")
#elif defined(CN_MSC_)
#pragma fp_contract(off)
#endif

/* ==== basics ================================================================================== */

/* Fills the error, keeps the status as the value to return. */
static cn_status cn_fail_(cn_error *error, cn_status status, const char *format, ...) {
  if (error) {
    va_list arguments;
    error->status = status;
    error->line = error->column = 0;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
  }
  return status;
}

static int cn_min_(int a, int b) {
  return a < b ? a : b;
}
static int cn_max_(int a, int b) {
  return a > b ? a : b;
}

#define CN_FLOAT_DIGITS_ 9   /* with so many every float comes back from its text as it was */
#define CN_MESSAGE_DIGITS_ 6 /* of a number in a message, as printf's %g has */
#define CN_FLOAT_TEXT_ 20    /* bytes: sign, digits, point, exponent or zeros, and the final 0 */

/* Multiplies a number of `count` decimal digits, the lowest first; returns how many it then has. */
static int cn_multiply_digits_(unsigned char *digits, int count, int factor) {
  int i, carry = 0;
  for (i = 0; i < count; i++, carry /= 10) {
    carry += digits[i] * factor;
    digits[i] = (unsigned char)(carry % 10);
  }
  if (carry) digits[count++] = (unsigned char)carry;
  return count;
}

/* Rounds to the highest `kept` digits, halves to even; 1 if that made a digit more, the
   digits then being 1, 0, 0, ... */
static int cn_round_digits_(unsigned char *digits, int count, int kept) {
  int at = count - kept, half = at - 1, below = half;
  if (at <= 0 || digits[half] < 5) return 0;
  while (below > 0 && digits[below - 1] == 0) below--;
  if (digits[half] == 5 && below == 0 && digits[at] % 2 == 0) return 0;
  for (; at < count && digits[at] == 9; at++) digits[at] = 0;
  if (at < count)
    digits[at]++;
  else
    digits[count - 1] = 1;
  return at == count;
}

/* A number as printf's %.*g with at most nine digits writes it in the C locale; printf itself writes
   what the program's locale takes for a decimal point. A float is m * 2^e, or m * 5^-e / 10^-e: the
   digits are exact. Returns the text's begin. */
static char *cn_write_float_(float value, int kept, char *text) {
  unsigned char digits[128]; /* 2^24 * 5^149 has 112 */
  int count = 0, power, exponent, lowest, i;
  char *to = text;
  uint32_t bits, m;
  memcpy(&bits, &value, sizeof bits);
  power = (int)(bits >> 23 & 255), m = bits & 0x7FFFFF;
  if (bits >> 31) *to++ = '-';
  if (power == 255) {
    memcpy(to, m ? "nan" : "inf", 4);
    return text;
  }
  m |= power ? 0x800000 : 0, power = cn_max_(power, 1) - 150;
  for (; m; m /= 10) digits[count++] = (unsigned char)(m % 10);
  if (count == 0) {
    memcpy(to, "0", 2);
    return text;
  }
  for (i = abs(power); i > 0; i--) count = cn_multiply_digits_(digits, count, power < 0 ? 5 : 2);
  exponent = count - 1 + cn_min_(power, 0) + cn_round_digits_(digits, count, kept);
  for (lowest = cn_max_(0, count - kept); digits[lowest] == 0; lowest++) {
  }
  if (exponent < -4 || exponent >= kept) {
    *to++ = (char)('0' + digits[--count]);
    if (count > lowest) *to++ = '.';
    while (count > lowest) *to++ = (char)('0' + digits[--count]);
    *to++ = 'e', *to++ = exponent < 0 ? '-' : '+', exponent = abs(exponent);
    *to++ = (char)('0' + exponent / 10), *to++ = (char)('0' + exponent % 10);
  } else {
    for (i = cn_max_(exponent, 0); i >= 0 || count - 1 - exponent + i >= lowest; i--) {
      const int at = count - 1 - exponent + i; /* the digit of 10^i */
      if (i == -1) *to++ = '.';
      *to++ = at >= lowest && at < count ? (char)('0' + digits[at]) : '0';
    }
  }
  *to = 0;
  return text;
}

/* Refuses a number: what it is, and why not. */
static cn_status cn_fail_value_(cn_error *error, const char *what, float value, const char *why) {
  char text[CN_FLOAT_TEXT_];
  return cn_fail_(error, CN_ERROR_ARGUMENT, "%s %s %s", what,
                  cn_write_float_(value, CN_MESSAGE_DIGITS_, text), why);
}

static int cn_ceil_div_(int a, int b) {
  return a / b + (a % b > 0);
}
static int cn_round_up_(int a, int b) {
  return cn_ceil_div_(a, b) * b;
}
/* Where the i-th of so many equal cuts of n items begins, which is where the one before it ends. */
static int cn_cut_(int n, int i, int cuts) {
  return (int)((int64_t)n * i / cuts);
}
static size_t cn_min_size_(size_t a, size_t b) {
  return a < b ? a : b;
}
/* Sizes come from texts and files that may be hostile: every product and sum of them stops at
   SIZE_MAX, which no memory has, in the place of wrapping around. Factors of half the bits need no
   division to see that. */
static size_t cn_times_(size_t a, size_t b) {
  const size_t half = (size_t)1 << 4 * sizeof(size_t);
  return (a | b) >= half && b && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}
static size_t cn_plus_(size_t a, size_t b) {
  return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

static size_t cn_align_size_(size_t n, size_t to) {
  return n > SIZE_MAX - to ? SIZE_MAX : (n + to - 1) / to * to;
}
static size_t cn_align_bytes_(size_t n) {
  return cn_align_size_(n, CN_ALIGNMENT_);
}
static size_t cn_align_floats_(size_t n) {
  return cn_align_size_(n, CN_ALIGN_FLOATS_);
}

/* A number of units, which are ints; INT_MAX where there would be more. */
static int cn_unit_count_(int64_t n) {
  return n < INT_MAX ? (int)n : INT_MAX;
}

/* a * b * c, or SIZE_MAX where it would pass SIZE_MAX / 8 (so that bytes of floats still fit). */
static size_t cn_product3_(size_t a, size_t b, size_t c) {
  const size_t product = cn_times_(cn_times_(a, b), c);
  return product > SIZE_MAX / 8 ? SIZE_MAX : product;
}

/* Memory of an allocator; of CN_MALLOC where it is NULL or empty. */
static void *cn_malloc_(const cn_allocator *allocator, size_t bytes) {
  return allocator && allocator->allocate ? allocator->allocate(bytes, allocator->user)
                                          : CN_MALLOC(bytes);
}
static void cn_free_(const cn_allocator *allocator, void *memory) {
  if (!memory) return;
  if (allocator && allocator->allocate)
    allocator->release(memory, allocator->user);
  else
    CN_FREE(memory);
}

/* Aligned, zeroed memory; NULL when there is none. The first bytes before it keep malloc's
   pointer. */
static void *cn_allocate_(const cn_allocator *allocator, size_t bytes) {
  char *raw, *aligned;
  if (bytes > SIZE_MAX / 4) return NULL;
  raw = (char *)cn_malloc_(allocator, bytes + CN_ALIGNMENT_ + sizeof(void *));
  if (!raw) return NULL;
  aligned = raw + sizeof(void *);
  aligned += (CN_ALIGNMENT_ - (uintptr_t)aligned % CN_ALIGNMENT_) % CN_ALIGNMENT_;
  memcpy(aligned - sizeof(void *), &raw, sizeof raw);
  memset(aligned, 0, bytes);
  return aligned;
}

static void cn_release_(const cn_allocator *allocator, void *aligned) {
  void *raw;
  if (!aligned) return;
  memcpy(&raw, (char *)aligned - sizeof(void *), sizeof raw);
  cn_free_(allocator, raw);
}

/* What must be finite is looked at by its bits: compilers may have been told that there are no
   other numbers (-ffast-math) and then drop a comparison that asks. */
static int cn_is_finite_(double value) {
  const uint64_t exponent = (uint64_t)0x7FF << 52;
  uint64_t bits;
  memcpy(&bits, &value, sizeof bits);
  return (bits & exponent) != exponent;
}

/* splitmix64's output function of a counter. */
static uint64_t cn_mix_(uint64_t seed, uint64_t position) {
  uint64_t z = seed + (position + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

CN_API uint64_t cn_random_bits(cn_random *random) {
  return cn_mix_(random->seed, random->position++);
}

/* Lemire's multiplication, without bias: draws again in the short interval that would favour
   some. */
CN_API uint32_t cn_random_below(cn_random *random, uint32_t n) {
  uint64_t product = (cn_random_bits(random) >> 32) * n;
  const uint32_t unfair = (uint32_t)(0u - n) % n;
  while ((uint32_t)product < unfair) product = (cn_random_bits(random) >> 32) * n;
  return (uint32_t)(product >> 32);
}

CN_API float cn_random_uniform(cn_random *random) {
  return (float)(cn_random_bits(random) >> 40) * (1.0f / 16777216.0f);
}

CN_API float cn_random_normal(cn_random *random) {
  const double u = ((double)(cn_random_bits(random) >> 11) + 1.0) / 9007199254740992.0;
  const double angle =
      6.283185307179586 * (double)(cn_random_bits(random) >> 11) / 9007199254740992.0;
  return (float)(sqrt(-2.0 * log(u)) * cos(angle));
}

CN_API void cn_random_shuffle(cn_random *random, int *values, int count) {
  int i;
  for (i = count - 1; i > 0; i--) {
    const int j = (int)cn_random_below(random, (uint32_t)i + 1), value = values[i];
    values[i] = values[j], values[j] = value;
  }
}

CN_API void cn_init(cn_init_kind kind, float value, int fan_in, int fan_out, cn_random *random,
                    float *w, size_t n) {
  const double glorot = sqrt(6.0 / ((double)fan_in + (double)fan_out)),
               he = sqrt(2.0 / (double)fan_in);
  size_t i;
  for (i = 0; i < n; i++) {
    switch (kind) {
    case CN_INIT_GLOROT:
      w[i] = (float)(glorot * (2.0 * (double)cn_random_uniform(random) - 1.0));
      break;
    case CN_INIT_HE:
      w[i] = (float)(he * (double)cn_random_normal(random));
      break;
    case CN_INIT_GAUSSIAN:
      w[i] = value * cn_random_normal(random);
      break;
    case CN_INIT_CONSTANT:
      w[i] = value;
      break;
    }
  }
}

/* ==== threads ================================================================================= */

/* ---- numbers that threads share ----
   All calls are sequentially consistent. cn_atomic_add_ returns what was there before;
   cn_atomic_replace_ returns whether it found `before` and put `after` in its place. */

#if defined(__GNUC__) || defined(__clang__)
static inline int cn_atomic_load_(const int *at) {
  return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}
static inline void cn_atomic_store_(int *at, int value) {
  __atomic_store_n(at, value, __ATOMIC_SEQ_CST);
}
static inline int cn_atomic_add_(int *at, int value) {
  return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
static inline int cn_atomic_replace_(int *at, int before, int after) {
  return __atomic_compare_exchange_n(at, &before, after, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}
#elif defined(_MSC_VER)
#ifdef _M_ARM64
#define CN_LOADED_() __dmb(_ARM64_BARRIER_ISH)
#else
#define CN_LOADED_() _ReadWriteBarrier()
#endif
static inline int cn_atomic_load_(const int *at) {
  const int value = *(const volatile int *)at;
  CN_LOADED_();
  return value;
}
static inline void cn_atomic_store_(int *at, int value) {
  _InterlockedExchange((volatile long *)at, value);
}
static inline int cn_atomic_add_(int *at, int value) {
  return _InterlockedExchangeAdd((volatile long *)at, value);
}
static inline int cn_atomic_replace_(int *at, int before, int after) {
  return _InterlockedCompareExchange((volatile long *)at, after, before) == before;
}
#else
#define CN_NO_ATOMICS_ /* and so no threads, not even a caller's */
static inline int cn_atomic_load_(const int *at) {
  return *at;
}
static inline void cn_atomic_store_(int *at, int value) {
  *at = value;
}
static inline int cn_atomic_add_(int *at, int value) {
  const int before = *at;
  *at += value;
  return before;
}
#endif

/* ---- what the system offers ----
   A lock, conditions that hold or release those who have it, a thread, the number of processors. */

#define CN_MOST_THREADS_ 1024 /* of a plan */
#define CN_STACK_BYTES_ ((size_t)2 << 20)

#if defined(CN_THREADS_) && !defined(_WIN32)
typedef pthread_mutex_t cn_lock_;
typedef pthread_cond_t cn_condition_;
#define CN_LOCK_ PTHREAD_MUTEX_INITIALIZER
#define CN_CONDITION_ PTHREAD_COND_INITIALIZER

static void cn_lock_take_(cn_lock_ *lock) {
  pthread_mutex_lock(lock);
}
static void cn_lock_give_(cn_lock_ *lock) {
  pthread_mutex_unlock(lock);
}
static void cn_wait_(cn_condition_ *condition, cn_lock_ *lock) {
  pthread_cond_wait(condition, lock);
}
static void cn_signal_(cn_condition_ *condition) {
  pthread_cond_signal(condition);
}
static void cn_signal_all_(cn_condition_ *condition) {
  pthread_cond_broadcast(condition);
}

#if defined(__linux__) && defined(__GNUC__)
/* The system's call by a name of ours, since its own is declared only where _GNU_SOURCE is set. */
#ifdef __cplusplus
extern "C"
#endif
    int
    cn_sched_getaffinity_(int process, size_t bytes, void *mask) __asm__("sched_getaffinity");

static int cn_processors_(void) {
  unsigned char mask[1024]; /* 8192 processors */
  int processors = 0, i;
  memset(mask, 0, sizeof mask);
  if (cn_sched_getaffinity_(0, sizeof mask, mask) < 0) return 1;
  for (i = 0; i < 8 * (int)sizeof mask; i++) processors += mask[i / 8] >> i % 8 & 1;
  return cn_max_(processors, 1);
}
#else
static int cn_processors_(void) {
#if defined(_SC_NPROCESSORS_ONLN)
  return cn_max_((int)sysconf(_SC_NPROCESSORS_ONLN), 1);
#elif defined(__APPLE__) || defined(__FreeBSD__)
  return cn_max_((int)sysconf(58), 1); /* the same, hidden where _POSIX_C_SOURCE is set */
#else
  return 1;
#endif
}
#endif

static void cn_worker_(void);

static void *cn_thread_main_(void *unused) {
  cn_worker_();
  return unused;
}

static int cn_thread_start_(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  int failed;
  if (pthread_attr_init(&attributes)) return 0;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, CN_STACK_BYTES_);
  failed = pthread_create(&thread, &attributes, cn_thread_main_, NULL);
  pthread_attr_destroy(&attributes);
  return !failed;
}

#elif defined(CN_THREADS_)
typedef SRWLOCK cn_lock_;
typedef CONDITION_VARIABLE cn_condition_;
#define CN_LOCK_ SRWLOCK_INIT
#define CN_CONDITION_ CONDITION_VARIABLE_INIT

static void cn_lock_take_(cn_lock_ *lock) {
  AcquireSRWLockExclusive(lock);
}
static void cn_lock_give_(cn_lock_ *lock) {
  ReleaseSRWLockExclusive(lock);
}
static void cn_wait_(cn_condition_ *condition, cn_lock_ *lock) {
  SleepConditionVariableSRW(condition, lock, INFINITE, 0);
}
static void cn_signal_(cn_condition_ *condition) {
  WakeConditionVariable(condition);
}
static void cn_signal_all_(cn_condition_ *condition) {
  WakeAllConditionVariable(condition);
}

static int cn_processors_(void) {
  DWORD_PTR mine = 0, all = 0;
  int processors = 0;
  GetProcessAffinityMask(GetCurrentProcess(), &mine, &all);
  for (; mine; mine >>= 1) processors += (int)(mine & 1);
  return cn_max_(processors, 1);
}

static void cn_worker_(void);

static DWORD WINAPI cn_thread_main_(void *unused) {
  (void)unused;
  cn_worker_();
  return 0;
}

static int cn_thread_start_(void) {
  HANDLE thread = CreateThread(NULL, CN_STACK_BYTES_, cn_thread_main_, NULL,
                               STACK_SIZE_PARAM_IS_A_RESERVATION, NULL);
  if (thread) CloseHandle(thread);
  return thread != NULL;
}
#endif

/* ---- the pool ----
   A job is a task to be done in a number of lanes. The thread that has one opens it to the workers,
   does lane 0 itself, closes it, and waits for the lanes that workers have started. Those that no
   worker has come to are left out, so it is for tasks of which lane 0 does what the others leave.
   Workers start lanes of any open job. When there is none they look out for one for longer than the
   gaps between the jobs of a network, and then sleep; so does who waits for workers. */

#ifdef CN_THREADS_
#define CN_JOBS_ 32 /* open at the same time; who finds no place works alone */
/* With a pause after each: 0.2 to 0.9 milliseconds, by processor. That is longer than one thread
   takes for the dense layers of an image, during which the others wait; to wake one costs 40
   microseconds. */
#define CN_LOOKS_ 20000
#define CN_OWNER_LOOKS_ 2000 /* a lane may be held up for want of this very processor */

/* A job's state: how many lanes wait for a worker, how many workers run, and two flags. */
#define CN_LANE_WAITS_ 1
#define CN_LANE_RUNS_ (1 << 12)
#define CN_JOB_TAKEN_ (1 << 24)
#define CN_OWNER_SLEEPS_ (1 << 25)

typedef struct cn_job_ {
  int state; /* atomic; 0: the place is free */
  void (*task)(void *context, int lane);
  void *context;
  char apart[CN_ALIGNMENT_]; /* keeps jobs out of each other's cache lines */
} cn_job_;

typedef struct cn_pool_ { /* at first all 0 */
  int opened;             /* atomic; counts jobs: what workers look at */
  char apart[CN_ALIGNMENT_];
  int sleepers; /* atomic; workers that do not look */
  int wanted;   /* atomic; workers asked for so far */
  int workers;
  int looks; /* atomic; before sleeping: none if there are more threads than processors */
  cn_job_ jobs[CN_JOBS_];
} cn_pool_;

static cn_pool_ cn_shared_pool_;
static cn_lock_ cn_pool_lock_ = CN_LOCK_; /* of starting workers and of falling asleep */
static cn_condition_ cn_job_opened_ = CN_CONDITION_, cn_lane_finished_ = CN_CONDITION_;

static int cn_waiting_lanes_(int state) {
  return state % CN_LANE_RUNS_;
}
static int cn_running_lanes_(int state) {
  return state % CN_JOB_TAKEN_ / CN_LANE_RUNS_;
}

static void cn_pause_(void) {
#if defined(_MSC_VER)
  YieldProcessor();
#elif defined(__x86_64__) || defined(__i386__)
  __asm__ volatile("pause");
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Wakes up to two workers; each that starts a lane does the same, so that nobody wakes all. */
static void cn_wake_workers_(int lanes) {
  if (lanes < 1 || cn_atomic_load_(&cn_shared_pool_.sleepers) == 0) return;
  cn_lock_take_(&cn_pool_lock_); /* until who is about to sleep does, and can be woken */
  cn_lock_give_(&cn_pool_lock_);
  cn_signal_(&cn_job_opened_);
  if (lanes > 1) cn_signal_(&cn_job_opened_);
}

/* Runs a lane of the job if one waits. */
static int cn_help_with_(cn_job_ *job) {
  for (;;) {
    int state = cn_atomic_load_(&job->state);
    const int lane = cn_waiting_lanes_(state);
    if (lane == 0) return 0;
    if (!cn_atomic_replace_(&job->state, state, state - CN_LANE_WAITS_ + CN_LANE_RUNS_)) continue;
    cn_wake_workers_(lane - 1);
    job->task(job->context, lane);
    state = cn_atomic_add_(&job->state, -CN_LANE_RUNS_);
    if (cn_running_lanes_(state) == 1 && state & CN_OWNER_SLEEPS_) {
      cn_lock_take_(&cn_pool_lock_);
      cn_lock_give_(&cn_pool_lock_);
      cn_signal_all_(&cn_lane_finished_);
    }
    return 1;
  }
}

/* A worker's life. */
static void cn_worker_(void) {
  cn_pool_ *pool = &cn_shared_pool_;
  for (;;) {
    const int opened = cn_atomic_load_(&pool->opened);
    int looks = cn_atomic_load_(&pool->looks), i, helped = 0;
    for (i = 0; i < CN_JOBS_ && !helped; i++) helped = cn_help_with_(&pool->jobs[i]);
    if (helped) continue;
    for (; looks > 0 && cn_atomic_load_(&pool->opened) == opened; looks--) cn_pause_();
    if (cn_atomic_load_(&pool->opened) != opened) continue;
    cn_lock_take_(&cn_pool_lock_);
    cn_atomic_add_(&pool->sleepers, 1);
    while (cn_atomic_load_(&pool->opened) == opened) cn_wait_(&cn_job_opened_, &cn_pool_lock_);
    cn_atomic_add_(&pool->sleepers, -1);
    cn_lock_give_(&cn_pool_lock_);
  }
}

#ifndef _WIN32
/* A child has none of its parent's workers, and perhaps a lock that one of them held. */
static void cn_forked_(void) {
  memset(&cn_shared_pool_, 0, sizeof cn_shared_pool_);
  pthread_mutex_init(&cn_pool_lock_, NULL);
  pthread_cond_init(&cn_job_opened_, NULL);
  pthread_cond_init(&cn_lane_finished_, NULL);
}

static void cn_watch_forks_(void) {
  static int watched = 0;
  if (!watched) watched = pthread_atfork(NULL, NULL, cn_forked_) == 0;
}
#endif

/* Starts workers until there are so many, or the system gives no more: then fewer have to do. */
static void cn_want_workers_(int workers) {
  cn_pool_ *pool = &cn_shared_pool_;
  if (cn_atomic_load_(&pool->wanted) >= workers) return;
  cn_lock_take_(&cn_pool_lock_);
#ifndef _WIN32
  cn_watch_forks_();
#endif
  while (pool->workers < workers && cn_thread_start_()) pool->workers++;
  cn_atomic_store_(&pool->looks, pool->workers < cn_processors_() ? CN_LOOKS_ : 0);
  cn_atomic_store_(&pool->wanted, cn_max_(pool->wanted, workers));
  cn_lock_give_(&cn_pool_lock_);
}

/* A free place, now taken; NULL if there is none. */
static cn_job_ *cn_job_take_(void) {
  int i;
  for (i = 0; i < CN_JOBS_; i++)
    if (cn_atomic_replace_(&cn_shared_pool_.jobs[i].state, 0, CN_JOB_TAKEN_))
      return &cn_shared_pool_.jobs[i];
  return NULL;
}

static void cn_job_open_(cn_job_ *job, void (*task)(void *context, int lane), void *context,
                         int lanes) {
  job->task = task, job->context = context;
  cn_atomic_store_(&job->state, CN_JOB_TAKEN_ + (lanes - 1) * CN_LANE_WAITS_);
  cn_atomic_add_(&cn_shared_pool_.opened, 1);
  cn_wake_workers_(lanes - 1);
}

/* No lane starts from now on; returns when those that have are finished. */
static void cn_job_close_(cn_job_ *job) {
  int looks = cn_atomic_load_(&cn_shared_pool_.looks) ? CN_OWNER_LOOKS_ : 0, state;
  do state = cn_atomic_load_(&job->state);
  while (!cn_atomic_replace_(&job->state, state, state - cn_waiting_lanes_(state)));
  for (; looks > 0 && cn_running_lanes_(cn_atomic_load_(&job->state)); looks--) cn_pause_();
  if (cn_running_lanes_(cn_atomic_load_(&job->state))) {
    cn_lock_take_(&cn_pool_lock_);
    cn_atomic_add_(&job->state, CN_OWNER_SLEEPS_);
    while (cn_running_lanes_(cn_atomic_load_(&job->state)))
      cn_wait_(&cn_lane_finished_, &cn_pool_lock_);
    cn_lock_give_(&cn_pool_lock_);
  }
  cn_atomic_store_(&job->state, 0);
}

static void cn_pool_run_(void (*task)(void *context, int lane), void *context, int lanes) {
  cn_job_ *job = cn_job_take_();
  cn_want_workers_(lanes - 1);
  if (job) cn_job_open_(job, task, context, lanes);
  task(context, 0);
  if (job) cn_job_close_(job);
}
#endif

/* ---- work shared by threads ---- */

CN_API int cn_thread_count(void) {
#ifdef CN_THREADS_
  const char *text = getenv("CONVNET_THREADS");
  const long cap = text ? strtol(text, NULL, 10) : 0;
  const int processors = cn_min_(cn_processors_(), CN_MOST_THREADS_);
  return cap > 0 && cap < processors ? (int)cap : processors;
#else
  return 1;
#endif
}

/* What so many threads asked for, or 0, come to. */
static int cn_threads_of_(const cn_parallel *parallel, int asked) {
#ifdef CN_NO_ATOMICS_
  (void)parallel, (void)asked;
  return 1;
#else
#ifndef CN_THREADS_
  if (!parallel || !parallel->run) return 1;
#endif
  (void)parallel;
  return cn_min_(asked > 0 ? asked : cn_thread_count(), CN_MOST_THREADS_);
#endif
}

/* Units, and lanes that take one after another: one that is held up does not hold up the others. */
typedef struct cn_units_ {
  void (*unit)(void *context, int i, int thread);
  void *context;
  int count;
  int next; /* atomic */
} cn_units_;

static void cn_take_units_(void *context, int lane) {
  cn_units_ *units = (cn_units_ *)context;
  int i;
  while ((i = cn_atomic_add_(&units->next, 1)) < units->count) units->unit(units->context, i, lane);
}

CN_API void cn_parallel_for(const cn_parallel *parallel, int threads, int units,
                            void (*unit)(void *context, int i, int thread), void *context) {
  const int lanes = cn_min_(cn_threads_of_(parallel, threads), units);
  cn_units_ all;
  int i;
  all.unit = unit, all.context = context, all.count = units, all.next = 0;
  if (lanes < 2)
    for (i = 0; i < units; i++) unit(context, i, 0);
  else if (parallel && parallel->run)
    parallel->run(cn_take_units_, &all, lanes, parallel->user);
#ifdef CN_THREADS_
  else
    cn_pool_run_(cn_take_units_, &all, lanes);
#endif
}

/* ==== instruction sets ======================================================================== */

typedef struct cn_segment_ { /* a run of the summed index whose values of `a` lie side by side */
  ptrdiff_t a;               /* floats from the tile's first row */
  ptrdiff_t b;               /* row of the packed matrix */
} cn_segment_;

typedef struct cn_product_ { /* c[rows][columns] = a * packed + bias */
  int rows, columns, depth,
      packed_depth; /* depth of one segment; rows of the whole packed matrix */
  int segment_count;
  const cn_segment_ *segments;
  const float *a;
  ptrdiff_t a_stride; /* between rows, in floats */
  const float *packed, *bias;
  int relu;
  float *c;
  ptrdiff_t c_stride;
} cn_product_;

typedef struct
    cn_outer_ { /* c[rows][columns] (+)= sum over segments, depth of a[k][rows] x b[k][columns] */
  int rows, columns, depth, segment_count;
  const float *a, *b;
  ptrdiff_t a_step, b_step, a_segment, b_segment; /* in floats */
  int accumulate;
  float *c;
  ptrdiff_t c_stride;
} cn_outer_;

typedef struct cn_spike_ { /* one gradient that is not zero */
  uint32_t offset;         /* of what it is multiplied with, in floats: of a row of a matrix, or,
                              behind a pooling, of its window's first pixel in a block of channels:
                              below 2^32, as 8 or more channels of 2^31 values become 16 at most */
  float gradient;
} cn_spike_;

#define CN_LIST_SLACK_ 16   /* spikes that a kernel may write behind a list's end */
#define CN_LIST_DEPTH_ 128  /* of the summed index at a time: its rows stay in the cache */
#define CN_LIST_COLUMNS_ 64 /* the most that `sparse_row` computes */

typedef struct cn_pooled_ { /* gradients behind a pooling, of one image */
  const float *dy;
  const uint8_t *argmax;
  int height, width, filters;
  ptrdiff_t places;        /* of a filter's list: height * width + CN_LIST_SLACK_ */
  uint32_t step_y, step_x; /* between the convolution's rows and columns, in offsets */
} cn_pooled_;

typedef struct cn_grey_ { /* one row of a pooled map from grey pictures */
  const float *rows; /* four rows of the padded picture, transformed: [row][4 planes][column] */
  ptrdiff_t plane;   /* floats of a plane */
  int windows, filters, relu;
  const float *packed, *bias;
  float *y;
  uint8_t *argmax;
} cn_grey_;

typedef struct cn_few_ { /* weight gradients behind a pooling, few input channels */
  const float *x, *dy;
  const uint8_t *argmax;
  int height, width, filters; /* of the pooled map */
  ptrdiff_t y_step, x_step;   /* floats of x per row and column of the convolution */
  int grey;                   /* the taps are the 3x3 neighbours of one channel */
} cn_few_;

#define CN_PATCH_SIDE_ 6 /* of the largest */

typedef struct cn_patch_ {           /* pixels that a tile is computed from */
  const float *rows[CN_PATCH_SIDE_]; /* from column `first` on; those outside the image: zeros */
  ptrdiff_t column_stride;
  int first, end; /* columns inside the image: the others are zero */
} cn_patch_;

typedef struct cn_winograd_out_ { /* where a tile's results go */
  float *y;
  uint8_t *argmax;
  const float *bias;
  int height, width; /* results of the tile: 2 or 4 */
  int relu, pool, channels, rows, columns;
  ptrdiff_t row_stride, column_stride;
} cn_winograd_out_;

typedef struct cn_pool_at_ { /* a pooling window's part inside the image */
  const float *x;
  int rows, columns, channels;
  ptrdiff_t row_step, column_step;
  cn_pool_kind kind;
  float mix, mean_scale;
} cn_pool_at_;

/* One per instruction set; the functions are described where they are written, below. */
typedef struct cn_kernels_ {
  int lanes, tile_vectors;
  int sparse_columns; /* that `sparse_row` computes, whole panels */
  void (*product)(const cn_product_ *);
  void (*outer)(const cn_outer_ *);
  void (*pack_matrix)(const float *, ptrdiff_t, ptrdiff_t, int, int, float *);
  void (*pool_rows)(const float *, ptrdiff_t, int, int, float *, uint8_t *);
  void (*unpool_row)(const float *, const uint8_t *, int, int, float *, ptrdiff_t);
  void (*channel_block)(const float *, size_t, int, int, float *);
  void (*transpose)(const float *, ptrdiff_t, int, int, float *, ptrdiff_t);
  int (*all_below)(const float *, size_t, uint32_t);
  size_t (*zeros)(const float *, ptrdiff_t, int, int);
  int (*list)(const float *, const uint32_t *, int, cn_spike_ *);
  void (*find_spikes)(const cn_pooled_ *, cn_spike_ *, int *);
  void (*sparse)(const cn_spike_ *, int, const float *, ptrdiff_t, int, int, float *);
  void (*sparse_row)(const cn_spike_ *, int, const float *, ptrdiff_t, int, float *);
  void (*few)(const cn_few_ *, const ptrdiff_t *, int, float *);
  void (*grey_weights)(const float *, int, float *);
  void (*grey_row)(const float *, int, float *, ptrdiff_t);
  void (*grey)(const cn_grey_ *);
  void (*winograd_weights)(int, int, const float *const *, int, float *, ptrdiff_t);
  void (*winograd_input)(int, int, const cn_patch_ *, int, float *, ptrdiff_t);
  void (*winograd_output)(const cn_winograd_out_ *, const float *, ptrdiff_t);
  void (*winograd_gradient)(int, const cn_patch_ *, int, float *, ptrdiff_t);
  void (*winograd_weights_gradient)(int, const float *, ptrdiff_t, int, float *const *);
  void (*depthwise_row)(const float *, ptrdiff_t, const cn_segment_ *, int, const float *,
                        const float *, int, int, int, float *);
  void (*multiply_add)(const float *, const float *, float *, int);
  void (*column_sums)(const float *, size_t, int, float *);
  void (*pool_window)(const cn_pool_at_ *, float *);
  void (*pool_window_backward)(const cn_pool_at_ *, const float *, float *);
  void (*relu_forward)(const float *, float *, size_t);
  void (*relu_backward)(const float *, const float *, float, float *, size_t);
  void (*sigmoid_forward)(const float *, float *, size_t);
  void (*sigmoid_backward)(const float *, const float *, float *, size_t);
  void (*tanh_forward)(const float *, float *, size_t);
  void (*tanh_backward)(const float *, const float *, float *, size_t);
  void (*add)(const float *, const float *, float *, size_t);
  float (*exp_shifted)(const float *, float, float *, size_t);
  void (*part_sums)(const float *, const float *, size_t, int, const float *, const float *,
                    double *);
  void (*normalise)(const cn_batchnorm *, const float *, float *, size_t);
  void (*normalise_backward)(const cn_batchnorm *, const float *, const float *, const float *,
                             const float *, float *, size_t);
  void (*update)(const cn_update *, float *, const float *, float *, float *, size_t);
} cn_kernels_;

#define CN_ROOT2_ 1.41421356f
#define CN_HALF_ROOT2_ 0.707106781f

/* ---- matrix tiles ----
   A tile keeps rows x vectors accumulators in registers, as named variables: compilers move arrays
   of them to memory. CN_EACH_ROW_n_(X) expands X(0) ... X(n-1). What differs from tile to tile are
   arguments: a call that copied the product first would wait for its own stores. last_lanes: lanes
   of the last vector that are columns. */
#define CN_EACH_ROW_1_(X) X(0)
#define CN_EACH_ROW_2_(X) CN_EACH_ROW_1_(X) X(1)
#define CN_EACH_ROW_3_(X) CN_EACH_ROW_2_(X) X(2)
#define CN_EACH_ROW_4_(X) CN_EACH_ROW_3_(X) X(3)
#define CN_EACH_ROW_5_(X) CN_EACH_ROW_4_(X) X(4)
#define CN_EACH_ROW_6_(X) CN_EACH_ROW_5_(X) X(5)
#define CN_EACH_ROW_7_(X) CN_EACH_ROW_6_(X) X(6)
#define CN_EACH_ROW_8_(X) CN_EACH_ROW_7_(X) X(7)
#define CN_EACH_ROW_9_(X) CN_EACH_ROW_8_(X) X(8)
#define CN_EACH_ROW_10_(X) CN_EACH_ROW_9_(X) X(9)
#define CN_EACH_ROW_11_(X) CN_EACH_ROW_10_(X) X(10)
#define CN_EACH_ROW_12_(X) CN_EACH_ROW_11_(X) X(11)
#define CN_EACH_ROW_13_(X) CN_EACH_ROW_12_(X) X(12)
#define CN_EACH_ROW_14_(X) CN_EACH_ROW_13_(X) X(13)

#define CN_EACH_COLUMN_1_(X, i) X(i, 0)
#define CN_EACH_COLUMN_2_(X, i) X(i, 0) X(i, 1)
#define CN_EACH_COLUMN_3_(X, i) X(i, 0) X(i, 1) X(i, 2)

#define CN_DECLARE_(i, j) cn_vf_ c##i##_##j = bias##j;
#define CN_MULTIPLY_(i, j) c##i##_##j = cn_vfma_(x, b##j, c##i##_##j);
#define CN_RECTIFY_(i, j) c##i##_##j = cn_vmax_(c##i##_##j, zero);
#define CN_LOAD_COLUMN_(j, p) ((j) == vectors - 1 ? cn_vload_first_(p, last) : cn_vload_(p))
#define CN_STORE_(i, j)                                                                            \
  if ((j) == vectors - 1)                                                                          \
    cn_vstore_first_(c + (i)*c_stride + (j)*CN_LANES_, c##i##_##j, last);                          \
  else                                                                                             \
    cn_vstore_(c + (i)*c_stride + (j)*CN_LANES_, c##i##_##j);
#define CN_ACCUMULATE_(i, j)                                                                       \
  c##i##_##j = cn_vadd_(c##i##_##j, CN_LOAD_COLUMN_(j, c + (i)*c_stride + (j)*CN_LANES_));

#define CN_BIAS_(i, j)                                                                             \
  const cn_vf_ bias##j = bias ? CN_LOAD_COLUMN_(j, bias + (j)*CN_LANES_) : cn_vzero_();
#define CN_LOAD_PACKED_(i, j) const cn_vf_ b##j = cn_vload_(b + (j)*CN_LANES_);
#define CN_LOAD_ROW_(i, j) const cn_vf_ b##j = CN_LOAD_COLUMN_(j, b + (j)*CN_LANES_);
#define CN_ZERO_BIAS_(i, j) const cn_vf_ bias##j = cn_vzero_();

/* Address of row i from one pointer for every three rows: x86 addresses p, p + s and p + 2s
   directly. */
#define CN_AT_(i) (*(const float *)(const void *)(CN_ROW_POINTER_##i))
#define CN_ROW_POINTER_0 p0
#define CN_ROW_POINTER_1 (p0 + s)
#define CN_ROW_POINTER_2 (p0 + 2 * s)
#define CN_ROW_POINTER_3 p3
#define CN_ROW_POINTER_4 (p3 + s)
#define CN_ROW_POINTER_5 (p3 + 2 * s)
#define CN_ROW_POINTER_6 p6
#define CN_ROW_POINTER_7 (p6 + s)
#define CN_ROW_POINTER_8 (p6 + 2 * s)
#define CN_ROW_POINTER_9 p9
#define CN_ROW_POINTER_10 (p9 + s)
#define CN_ROW_POINTER_11 (p9 + 2 * s)
#define CN_ROW_POINTER_12 p12
#define CN_ROW_POINTER_13 (p12 + s)

/* c[rows][columns] = sum over segments and depth of a[row][k] * b[k][columns] + bias, b packed. */
#define CN_FORWARD_ROW1_(i)                                                                        \
  {                                                                                                \
    const cn_vf_ x = cn_vset_(CN_AT_(i));                                                          \
    CN_EACH_COLUMN_1_(CN_MULTIPLY_, i)                                                             \
  }
#define CN_FORWARD_ROW2_(i)                                                                        \
  {                                                                                                \
    const cn_vf_ x = cn_vset_(CN_AT_(i));                                                          \
    CN_EACH_COLUMN_2_(CN_MULTIPLY_, i)                                                             \
  }
#define CN_FORWARD_ROW3_(i)                                                                        \
  {                                                                                                \
    const cn_vf_ x = cn_vset_(CN_AT_(i));                                                          \
    CN_EACH_COLUMN_3_(CN_MULTIPLY_, i)                                                             \
  }
#define CN_DECLARE1_(i) CN_EACH_COLUMN_1_(CN_DECLARE_, i)
#define CN_DECLARE2_(i) CN_EACH_COLUMN_2_(CN_DECLARE_, i)
#define CN_DECLARE3_(i) CN_EACH_COLUMN_3_(CN_DECLARE_, i)
#define CN_RECTIFY1_(i) CN_EACH_COLUMN_1_(CN_RECTIFY_, i)
#define CN_RECTIFY2_(i) CN_EACH_COLUMN_2_(CN_RECTIFY_, i)
#define CN_RECTIFY3_(i) CN_EACH_COLUMN_3_(CN_RECTIFY_, i)
#define CN_STORE1_(i) CN_EACH_COLUMN_1_(CN_STORE_, i)
#define CN_STORE2_(i) CN_EACH_COLUMN_2_(CN_STORE_, i)
#define CN_STORE3_(i) CN_EACH_COLUMN_3_(CN_STORE_, i)
#define CN_ACCUMULATE1_(i) CN_EACH_COLUMN_1_(CN_ACCUMULATE_, i)
#define CN_ACCUMULATE2_(i) CN_EACH_COLUMN_2_(CN_ACCUMULATE_, i)
#define CN_ACCUMULATE3_(i) CN_EACH_COLUMN_3_(CN_ACCUMULATE_, i)

#define CN_PRODUCT_TILE_(R, V)                                                                     \
  static void CN_NAME_(cn_product_tile_##R##x##V##_)(const cn_product_ *t, const float *a,         \
                                                     const float *packed, const float *bias,       \
                                                     float *c, int last_lanes) {                   \
    const ptrdiff_t s = t->a_stride * (ptrdiff_t)sizeof(float), c_stride = t->c_stride;            \
    const cn_vm_ last = cn_vfirst_(last_lanes);                                                    \
    enum { vectors = V };                                                                          \
    int segment;                                                                                   \
    CN_EACH_COLUMN_##V##_(CN_BIAS_, 0) CN_EACH_ROW_##R##_(                                         \
        CN_DECLARE##V##_) for (segment = 0; segment < t->segment_count; segment++) {               \
      const char *p0 = (const char *)(a + t->segments[segment].a);                                 \
      const char *p3 = p0 + 3 * s, *p6 = p3 + 3 * s, *p9 = p6 + 3 * s, *p12 = p9 + 3 * s;          \
      const float *b = packed + t->segments[segment].b * (V)*CN_LANES_;                            \
      const float *end = b + (ptrdiff_t)t->depth * (V)*CN_LANES_;                                  \
      (void)p3, (void)p6, (void)p9, (void)p12;                                                     \
      do {                                                                                         \
        CN_EACH_COLUMN_##V##_(CN_LOAD_PACKED_, 0) CN_EACH_ROW_##R##_(CN_FORWARD_ROW##V##_) p0 +=   \
            sizeof(float),                                                                         \
            p3 += sizeof(float), p6 += sizeof(float), p9 += sizeof(float);                         \
        p12 += sizeof(float), b += (V)*CN_LANES_;                                                  \
      } while (b != end);                                                                          \
    }                                                                                              \
    if (t->relu) {                                                                                 \
      const cn_vf_ zero = cn_vzero_();                                                             \
      CN_EACH_ROW_##R##_(CN_RECTIFY##V##_)                                                         \
    }                                                                                              \
    CN_EACH_ROW_##R##_(CN_STORE##V##_)                                                             \
  }

/* One row of c over some neighbouring panels: a single row of a tile has too few sums to hide the
   latency of a multiply-add. Each sum is taken in the same order as in a tile. */
#define CN_WIDE_LOAD_(i, j, p)                                                                     \
  ((i) == panels - 1 && (j) == CN_TILE_VECTORS_ - 1                                                \
       ? cn_vload_first_((p) + (i)*CN_PANEL_ + (j)*CN_LANES_, last)                                \
       : cn_vload_((p) + (i)*CN_PANEL_ + (j)*CN_LANES_))
#define CN_WIDE_DECLARE_(i, j) cn_vf_ c##i##_##j = bias ? CN_WIDE_LOAD_(i, j, bias) : cn_vzero_();
#define CN_WIDE_MULTIPLY_(i, j)                                                                    \
  c##i##_##j = cn_vfma_(x, cn_vload_(b + (i)*panel_floats + (j)*CN_LANES_), c##i##_##j);
#define CN_WIDE_STORE_(i, j)                                                                       \
  if ((i) == panels - 1 && (j) == CN_TILE_VECTORS_ - 1)                                            \
    cn_vstore_first_(c + (i)*CN_PANEL_ + (j)*CN_LANES_, c##i##_##j, last);                         \
  else                                                                                             \
    cn_vstore_(c + (i)*CN_PANEL_ + (j)*CN_LANES_, c##i##_##j);
#define CN_WIDE_DECLARE_PANEL_(i) CN_EACH_PANEL_VECTOR_(CN_WIDE_DECLARE_, i)
#define CN_WIDE_MULTIPLY_PANEL_(i) CN_EACH_PANEL_VECTOR_(CN_WIDE_MULTIPLY_, i)
#define CN_WIDE_RECTIFY_PANEL_(i) CN_EACH_PANEL_VECTOR_(CN_RECTIFY_, i)
#define CN_WIDE_STORE_PANEL_(i) CN_EACH_PANEL_VECTOR_(CN_WIDE_STORE_, i)

#define CN_PRODUCT_WIDE_(P)                                                                        \
  static void CN_NAME_(cn_product_wide_##P##_)(const cn_product_ *t, const float *a,               \
                                               const float *packed, const float *bias, float *c,   \
                                               int last_lanes) {                                   \
    const ptrdiff_t panel_floats = (ptrdiff_t)t->packed_depth * CN_PANEL_;                         \
    const cn_vm_ last = cn_vfirst_(last_lanes);                                                    \
    enum { panels = P };                                                                           \
    int segment, k;                                                                                \
    CN_EACH_ROW_##P##_(CN_WIDE_DECLARE_PANEL_) for (segment = 0; segment < t->segment_count;       \
                                                    segment++) {                                   \
      const float *from = a + t->segments[segment].a;                                              \
      const float *b = packed + t->segments[segment].b * CN_PANEL_;                                \
      for (k = 0; k < t->depth; k++, b += CN_PANEL_) {                                             \
        const cn_vf_ x = cn_vset_(from[k]);                                                        \
        CN_EACH_ROW_##P##_(CN_WIDE_MULTIPLY_PANEL_)                                                \
      }                                                                                            \
    }                                                                                              \
    if (t->relu) {                                                                                 \
      const cn_vf_ zero = cn_vzero_();                                                             \
      CN_EACH_ROW_##P##_(CN_WIDE_RECTIFY_PANEL_)                                                   \
    }                                                                                              \
    CN_EACH_ROW_##P##_(CN_WIDE_STORE_PANEL_)                                                       \
  }

/* c[rows][columns] (+)= sum over segments and depth of a[k][row] * b[k][columns], b as it lies. */
#define CN_OUTER_ROW1_(i)                                                                          \
  {                                                                                                \
    const cn_vf_ x = cn_vset_(a[i]);                                                               \
    CN_EACH_COLUMN_1_(CN_MULTIPLY_, i)                                                             \
  }
#define CN_OUTER_ROW2_(i)                                                                          \
  {                                                                                                \
    const cn_vf_ x = cn_vset_(a[i]);                                                               \
    CN_EACH_COLUMN_2_(CN_MULTIPLY_, i)                                                             \
  }
#define CN_OUTER_ROW3_(i)                                                                          \
  {                                                                                                \
    const cn_vf_ x = cn_vset_(a[i]);                                                               \
    CN_EACH_COLUMN_3_(CN_MULTIPLY_, i)                                                             \
  }
#define CN_OUTER_TILE_(R, V)                                                                       \
  static void CN_NAME_(cn_outer_tile_##R##x##V##_)(                                                \
      const cn_outer_ *t, const float *first_a, const float *first_b, float *c, int last_lanes) {  \
    const ptrdiff_t c_stride = t->c_stride;                                                        \
    const cn_vm_ last = cn_vfirst_(last_lanes);                                                    \
    enum { vectors = V };                                                                          \
    int segment, k;                                                                                \
    CN_EACH_COLUMN_##V##_(CN_ZERO_BIAS_, 0) CN_EACH_ROW_##R##_(                                    \
        CN_DECLARE##V##_) for (segment = 0; segment < t->segment_count; segment++) {               \
      const float *a = first_a + segment * t->a_segment, *b = first_b + segment * t->b_segment;    \
      for (k = 0; k < t->depth; k++) {                                                             \
        CN_EACH_COLUMN_##V##_(CN_LOAD_ROW_, 0) CN_EACH_ROW_##R##_(CN_OUTER_ROW##V##_) a +=         \
            t->a_step,                                                                             \
            b += t->b_step;                                                                        \
      }                                                                                            \
    }                                                                                              \
    if (t->accumulate) {                                                                           \
      CN_EACH_ROW_##R##_(CN_ACCUMULATE##V##_)                                                      \
    }                                                                                              \
    CN_EACH_ROW_##R##_(CN_STORE##V##_)                                                             \
  }

/* ---- the kernels, once per instruction set ----
   gcc and clang are told which instructions a region may use, so that a user needs no flags;
   Microsoft's compiler takes all of them everywhere. */
#if defined(CN_GCC_) && defined(CN_X86_) && defined(_WIN64)
/* The stack of 64-bit Windows is aligned to 16 bytes, and gcc (bug 54412) moves wide vectors to and
   from it as if it were to 32 or 64. The assembler is told to take aligned moves for unaligned
   ones, which are as fast. */
#define CN_UNALIGNED_(aligned, unaligned)                                                          \
  ".macro " aligned " operands:vararg\n" unaligned " \\operands\n.endm\n"
__asm__(".ifndef .Lcn_unaligned_moves\n.set .Lcn_unaligned_moves, 1\n" /* with -flto: once */
        CN_UNALIGNED_("vmovaps", "vmovups") CN_UNALIGNED_("vmovapd", "vmovupd")
            CN_UNALIGNED_("vmovdqa", "vmovdqu") CN_UNALIGNED_("vmovdqa32", "vmovdqu32")
                CN_UNALIGNED_("vmovdqa64", "vmovdqu64") ".endif\n");
#endif

#ifdef CN_GCC_
#pragma GCC push_options
#pragma GCC optimize("no-tree-vectorize") /* gcc 12 then reads behind the last of strided rows */
#endif
#define CN_PASS_ 0
#include CONVNET_FILE
#undef CN_PASS_
#ifdef CN_GCC_
#pragma GCC pop_options
#endif

#ifdef CN_ARM_
#define CN_PASS_ 1
#include CONVNET_FILE
#undef CN_PASS_
#endif

#ifdef CN_X86_
#if defined(CN_CLANG_)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#elif defined(CN_GCC_)
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
#define CN_PASS_ 2
#include CONVNET_FILE
#undef CN_PASS_
#if defined(CN_CLANG_)
#pragma clang attribute pop
#elif defined(CN_GCC_)
#pragma GCC pop_options
#endif

#ifndef CONVNET_NO_AVX512
#if defined(CN_CLANG_)
#if __clang_major__ >= 18 && __clang_major__ <= 21 && !defined(__apple_build_version__)
#define CN_WIDE_FEATURE_ ",evex512" /* these count vectors of 512 bits as one more feature */
#else
#define CN_WIDE_FEATURE_ ""
#endif
#pragma clang attribute push(                                                                      \
    __attribute__((                                                                                \
        target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,popcnt" CN_WIDE_FEATURE_))),           \
    apply_to = function)
#elif defined(CN_GCC_)
#pragma GCC push_options
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized" /* of gcc 12's own avx512fintrin.h, in C++ */
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,popcnt")
#endif
#define CN_PASS_ 3
#include CONVNET_FILE
#undef CN_PASS_
#if defined(CN_CLANG_)
#pragma clang attribute pop
#elif defined(CN_GCC_)
#pragma GCC diagnostic pop
#pragma GCC pop_options
#endif
#endif
#endif

#ifdef CN_WASM_
#define CN_PASS_ 4
#include CONVNET_FILE
#undef CN_PASS_
#endif

static const cn_kernels_ *cn_kernels_of_(cn_isa isa) {
  switch (isa) {
#ifdef CN_ARM_
  case CN_ISA_NEON:
    return &cn_kernels_neon_;
#endif
#ifdef CN_WASM_
  case CN_ISA_WASM128:
    return &cn_kernels_wasm128_;
#endif
#ifdef CN_X86_
  case CN_ISA_AVX2:
    return &cn_kernels_avx2_;
#ifndef CONVNET_NO_AVX512
  case CN_ISA_AVX512:
    return &cn_kernels_avx512_;
#endif
#endif
  default:
    return &cn_kernels_scalar_;
  }
}

#ifdef CN_X86_
/* What CPUID says of a leaf, in registers a, b, c, d; zeros where the processor does not know
   it. */
static void cn_cpuid_(int leaf, unsigned *registers) {
  memset(registers, 0, 4 * sizeof *registers);
#ifdef CN_MSC_
  {
    int said[4];
    __cpuid(said, 0);
    if (said[0] < leaf) return;
    __cpuidex(said, leaf, 0);
    memcpy(registers, said, sizeof said);
  }
#else
  __get_cpuid_count((unsigned)leaf, 0, registers, registers + 1, registers + 2, registers + 3);
#endif
}

/* Which registers the operating system saves; only for processors that have XGETBV. */
static unsigned cn_saved_registers_(void) {
#ifdef CN_MSC_
  return (unsigned)_xgetbv(0);
#else
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  (void)high;
  return low;
#endif
}
#endif

/* What processor and operating system offer: the feature bits, and that the wide registers are
   saved. */
static cn_isa cn_isa_detect_(void) {
#if defined(CN_ARM_)
  return CN_ISA_NEON;
#elif defined(CN_WASM_)
  return CN_ISA_WASM128;
#elif defined(CN_X86_)
  const unsigned basic = 1u << 12 | 1u << 23 | 1u << 27 | 1u << 28; /* FMA, POPCNT, OSXSAVE, AVX */
  const unsigned avx2 = 1u << 5;
  const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F, DQ, BW, VL */
  unsigned saved, registers[4];
  cn_cpuid_(1, registers);
  if ((registers[2] & basic) != basic) return CN_ISA_SCALAR;
  saved = cn_saved_registers_();
  if ((saved & 6u) != 6u) return CN_ISA_SCALAR; /* XMM and YMM */
  cn_cpuid_(7, registers);
  if (!(registers[1] & avx2)) return CN_ISA_SCALAR;
#ifndef CONVNET_NO_AVX512
  if ((registers[1] & avx512) == avx512 && (saved & 0xE6u) == 0xE6u) /* and ZMM, masks */
    return CN_ISA_AVX512;
#else
  (void)avx512;
#endif
  return CN_ISA_AVX2;
#else
  return CN_ISA_SCALAR;
#endif
}

static const char *const cn_isa_names_[] = {"scalar", "neon", "wasm128", "avx2", "avx512"};

/* The best usable choice that is not above the cap. */
static cn_isa cn_isa_capped_(cn_isa cap) {
  const cn_isa best = cn_isa_detect_();
  if (cap >= best) return best;
  if (best >= CN_ISA_AVX2) return cap >= CN_ISA_AVX2 ? cap : CN_ISA_SCALAR;
  return CN_ISA_SCALAR;
}

static cn_isa cn_isa_from_environment_(void) {
  const char *name = getenv("CONVNET_ISA");
  int i;
  for (i = 0; name && i <= CN_ISA_AVX512; i++)
    if (strcmp(name, cn_isa_names_[i]) == 0) return cn_isa_capped_((cn_isa)i);
  return cn_isa_detect_();
}

/* -1 until first asked. Threads that ask at the same time all store the same value. */
static int cn_isa_cache_ = -1;

CN_API cn_isa cn_isa_current(void) {
  int isa = cn_atomic_load_(&cn_isa_cache_);
  if (isa < 0) {
    isa = (int)cn_isa_from_environment_();
    cn_atomic_store_(&cn_isa_cache_, isa);
  }
  return (cn_isa)isa;
}

CN_API const char *cn_isa_name(void) {
  return cn_isa_names_[cn_isa_current()];
}

CN_API cn_isa cn_isa_limit(cn_isa isa) {
  cn_isa chosen = cn_isa_capped_(isa);
  const cn_isa environment = cn_isa_from_environment_();
  if (environment < chosen) chosen = environment;
  cn_atomic_store_(&cn_isa_cache_, (int)chosen);
  return chosen;
}

static const cn_kernels_ *cn_current_(void) {
  return cn_kernels_of_(cn_isa_current());
}

#define CN_INFINITE_BITS_ 0x7F800000u /* of infinity; those of what is no number are larger */

static int cn_all_finite_(const float *values, size_t n) {
  return cn_current_()->all_below(values, n, CN_INFINITE_BITS_);
}

/* ==== layer 1: kernels ======================================================================== */

/* From a window's first tap to behind its last. */
static int64_t cn_span_(int window, int dilation) {
  return (int64_t)dilation * (window - 1) + 1;
}

CN_API int cn_window_positions(int size, int window, int stride, int dilation, int pad_before,
                               int pad_after, int round_up) {
  const int64_t span = cn_span_(window, dilation);
  const int64_t room = (int64_t)size + pad_before + pad_after - span;
  const int64_t most = ((int64_t)size + pad_before - 1) / stride + 1;
  int64_t positions;
  if (room < 0) return 0;
  positions = (room + (round_up ? stride - 1 : 0)) / stride + 1;
  if (round_up && positions > most) positions = most;
  return (int)positions;
}

/* Zero fields replaced by what they mean. */
static cn_window cn_window_filled_(cn_window w) {
  if (w.stride_y == 0) w.stride_y = 1;
  if (w.stride_x == 0) w.stride_x = 1;
  if (w.dilation_y == 0) w.dilation_y = 1;
  if (w.dilation_x == 0) w.dilation_x = 1;
  return w;
}

static int cn_in_range_(int value, int least) {
  return value >= least && value <= CN_MAX_DIMENSION;
}

static cn_status cn_window_check_(const cn_window *window, cn_error *error) {
  const cn_window w = cn_window_filled_(*window);
  if (!cn_in_range_(w.height, 1) || !cn_in_range_(w.width, 1) || !cn_in_range_(w.stride_y, 1) ||
      !cn_in_range_(w.stride_x, 1) || !cn_in_range_(w.dilation_y, 1) ||
      !cn_in_range_(w.dilation_x, 1) || !cn_in_range_(w.pad_top, 0) ||
      !cn_in_range_(w.pad_left, 0) || !cn_in_range_(w.pad_bottom, 0) ||
      !cn_in_range_(w.pad_right, 0) || w.padding < CN_PADDING_ZERO || w.padding > CN_PADDING_WRAP)
    return cn_fail_(
        error, CN_ERROR_ARGUMENT,
        "window %dx%d stride %dx%d dilation %dx%d pad %d,%d,%d,%d is outside the limits", w.height,
        w.width, w.stride_y, w.stride_x, w.dilation_y, w.dilation_x, w.pad_top, w.pad_left,
        w.pad_bottom, w.pad_right);
  return CN_OK;
}

/* Values of an image or of a convolution's weights: a number that may be rounded up and is an
   int. */
#define CN_MAX_VALUES_ ((size_t)INT32_MAX - 65535)

static cn_status cn_shape_check_(cn_shape s, cn_error *error) {
  if (s.count < 1 || !cn_in_range_(s.height, 1) || !cn_in_range_(s.width, 1) ||
      !cn_in_range_(s.channels, 1) ||
      cn_product3_((size_t)s.height, (size_t)s.width, (size_t)s.channels) > CN_MAX_VALUES_)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "shape %d x %dx%dx%d is outside the limits", s.count,
                    s.height, s.width, s.channels);
  return CN_OK;
}

static size_t cn_values_(cn_shape s) { /* of one image */
  return (size_t)s.height * (size_t)s.width * (size_t)s.channels;
}

/* ---- convolution: geometry ---- */

typedef enum cn_algorithm_ {
  CN_DIRECT_,
  CN_FLAT_,
  CN_DEPTHWISE_,
  CN_GREY_,
  CN_WINOGRAD2_,
  CN_WINOGRAD4_,
  CN_SPARSE_,
  CN_FEW_
} cn_algorithm_;

/* What follows from a cn_conv2d. out_* is the convolution's own map, without the odd last row and
   column that pooling drops; y_* the final one. */
typedef struct cn_geometry_ {
  int count, in_h, in_w, channels, filters, groups, group_channels, group_filters;
  cn_window window;
  int out_h, out_w, y_h, y_w;
  int padded_h, padded_w; /* part of the padded input that the windows reach */
  int depth;              /* products summed per result: rows of the weight matrix of a group */
  int flat;               /* 1x1, stride 1: pixels are rows of one matrix product */
  int units;              /* wanted of a pass, or more */
} cn_geometry_;

#define CN_UNITS_ 16 /* wanted, so that threads have something to share */

/* Rows or columns that so many window positions reach; 0 if there is no position. */
static int cn_reach_(int positions, int window, int stride, int dilation) {
  return positions < 1 ? 0 : (int)((positions - 1) * (int64_t)stride + cn_span_(window, dilation));
}

static int cn_is_flat_(const cn_conv2d *conv) {
  const cn_window w = cn_window_filled_(conv->window);
  return w.height == 1 && w.width == 1 && w.stride_y == 1 && w.stride_x == 1 && conv->groups <= 1 &&
         !conv->pool && !w.pad_top && !w.pad_left && !w.pad_bottom && !w.pad_right;
}

static cn_geometry_ cn_geometry_of_(const cn_conv2d *conv) {
  cn_geometry_ g;
  const cn_window w = cn_window_filled_(conv->window);
  g.count = conv->in.count, g.in_h = conv->in.height, g.in_w = conv->in.width,
  g.channels = conv->in.channels;
  g.filters = conv->filters, g.groups = conv->groups ? conv->groups : 1;
  g.group_channels = g.channels / g.groups, g.group_filters = g.filters / g.groups;
  g.window = w;
  g.out_h =
      cn_window_positions(g.in_h, w.height, w.stride_y, w.dilation_y, w.pad_top, w.pad_bottom, 0);
  g.out_w =
      cn_window_positions(g.in_w, w.width, w.stride_x, w.dilation_x, w.pad_left, w.pad_right, 0);
  g.y_h = conv->pool ? g.out_h / 2 : g.out_h, g.y_w = conv->pool ? g.out_w / 2 : g.out_w;
  if (conv->pool) g.out_h = 2 * g.y_h, g.out_w = 2 * g.y_w;
  g.padded_h = cn_reach_(g.out_h, w.height, w.stride_y, w.dilation_y);
  g.padded_w = cn_reach_(g.out_w, w.width, w.stride_x, w.dilation_x);
  g.depth = w.height * w.width * g.group_channels;
  g.flat = cn_is_flat_(conv);
  g.units = conv->alone ? 1 : CN_UNITS_;
  return g;
}

CN_API cn_conv2d cn_dense(int rows, int inputs, int outputs, int relu) {
  cn_conv2d conv;
  memset(&conv, 0, sizeof conv);
  conv.in.count = 1, conv.in.height = 1, conv.in.width = rows, conv.in.channels = inputs;
  conv.filters = outputs, conv.groups = 1, conv.window.height = conv.window.width = 1;
  conv.relu = relu;
  return conv;
}

/* What cn_dense makes, and what is like it: any number of rows of any number of values. */
static int cn_is_dense_(const cn_conv2d *conv) {
  return conv->in.count == 1 && conv->in.height == 1 && conv->in.width > 0 &&
         conv->in.channels > 0 && cn_is_flat_(conv);
}

CN_API cn_status cn_conv2d_output(const cn_conv2d *conv, cn_shape *out, cn_error *error) {
  const int groups = conv->groups ? conv->groups : 1;
  const cn_window w = cn_window_filled_(conv->window);
  cn_geometry_ g;
  cn_shape y;
  if (cn_window_check_(&conv->window, error)) return CN_ERROR_ARGUMENT;
  if (!cn_is_dense_(conv) && cn_shape_check_(conv->in, error)) return CN_ERROR_ARGUMENT;
  if (!cn_in_range_(conv->filters, 1))
    return cn_fail_(error, CN_ERROR_ARGUMENT, "%d filters are outside 1 .. %d", conv->filters,
                    CN_MAX_DIMENSION);
  if (groups < 1 || conv->in.channels % groups || conv->filters % groups)
    return cn_fail_(error, CN_ERROR_SHAPE, "%d groups do not divide %d channels and %d filters",
                    groups, conv->in.channels, conv->filters);
  if (cn_product3_(cn_times_((size_t)w.height, (size_t)w.width),
                   (size_t)(conv->in.channels / groups), (size_t)conv->filters) > CN_MAX_VALUES_)
    return cn_fail_(error, CN_ERROR_SHAPE, "the convolution's weights pass %zu values",
                    CN_MAX_VALUES_);
  if (w.padding == CN_PADDING_WRAP &&
      (w.pad_top > conv->in.height || w.pad_bottom > conv->in.height ||
       w.pad_left > conv->in.width || w.pad_right > conv->in.width))
    return cn_fail_(error, CN_ERROR_SHAPE, "padding by wrapping is wider than the input %dx%d",
                    conv->in.height, conv->in.width);
  g = cn_geometry_of_(conv);
  if (g.y_h < 1 || g.y_w < 1)
    return cn_fail_(error, CN_ERROR_SHAPE, "window %dx%d%s does not fit the input %dx%d", w.height,
                    w.width, conv->pool ? " with 2x2 pooling" : "", conv->in.height,
                    conv->in.width);
  y.count = g.count, y.height = g.y_h, y.width = g.y_w, y.channels = g.filters;
  if ((!cn_is_dense_(conv) && cn_shape_check_(y, NULL)) ||
      cn_product3_((size_t)g.out_h, (size_t)g.out_w, (size_t)g.filters) > CN_MAX_VALUES_ ||
      cn_product3_((size_t)g.padded_h, (size_t)g.padded_w, (size_t)g.channels) > CN_MAX_VALUES_)
    return cn_fail_(error, CN_ERROR_SHAPE, "the convolution's result is outside the limits");
  *out = y;
  return CN_OK;
}

CN_API size_t cn_conv2d_weight_count(const cn_conv2d *conv) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  return (size_t)g.depth * (size_t)g.filters;
}

static cn_algorithm_ cn_winograd_of_(const cn_conv2d *conv) {
  return conv->math == CN_MATH_EXACT ? CN_WINOGRAD2_ : CN_WINOGRAD4_;
}

/* The transforms pay from about 8 channels on both sides. */
static int cn_winograd_fits_(const cn_conv2d *conv, const cn_geometry_ *g) {
  const cn_window *w = &g->window;
  return conv->math != CN_MATH_DIRECT && w->height == 3 && w->width == 3 && w->stride_y == 1 &&
         w->stride_x == 1 && w->dilation_y == 1 && w->dilation_x == 1 && g->groups == 1 &&
         w->padding == CN_PADDING_ZERO && g->channels >= 8 && g->filters >= 8;
}

/* A first layer on grey pictures with pooling behind it. */
static int cn_is_grey_(const cn_conv2d *conv, const cn_geometry_ *g) {
  const cn_window *w = &g->window;
  return g->channels == 1 && conv->pool && w->height == 3 && w->width == 3 && w->stride_y == 1 &&
         w->stride_x == 1 && w->dilation_y == 1 && w->dilation_x == 1;
}

static cn_algorithm_ cn_algorithm_of_(const cn_conv2d *conv, const cn_geometry_ *g, cn_pass pass) {
  const cn_window *w = &g->window;
  if (g->flat) return CN_FLAT_;
  if (pass == CN_FORWARD && conv->math != CN_MATH_DIRECT && cn_is_grey_(conv, g)) return CN_GREY_;
  if (g->groups == g->channels && g->groups == g->filters && g->groups > 1) return CN_DEPTHWISE_;
  if (pass == CN_BACKWARD_WEIGHTS && conv->pool) {
    if (g->groups != 1 || w->dilation_x != 1) return CN_DIRECT_;
    return g->channels < 8 ? CN_FEW_ : CN_SPARSE_;
  }
  if (!cn_winograd_fits_(conv, g)) return CN_DIRECT_;
  if (pass == CN_BACKWARD_INPUT && (w->pad_top > 2 || w->pad_left > 2)) return CN_DIRECT_;
  return cn_winograd_of_(conv);
}

#define CN_PARTS_ 8 /* wanted of a batch for the weights' gradient, summed in order */

/* Blocks of rows that one image is cut into: none for large batches, else enough to share the
   work. */
static int cn_rows_per_block_(const cn_geometry_ *g, int rows, int multiple) {
  const int blocks = cn_ceil_div_(g->units, g->count);
  return blocks == 1 ? rows : cn_min_(rows, cn_round_up_(cn_ceil_div_(rows, blocks), multiple));
}

#define CN_FLAT_ROWS_ 112 /* most per unit */

/* Rows of a flat product per unit. */
static int cn_flat_rows_(const cn_geometry_ *g) {
  const int64_t rows = (int64_t)g->count * g->in_h * g->in_w;
  return rows > g->units * CN_FLAT_ROWS_
             ? CN_FLAT_ROWS_
             : cn_round_up_((int)((rows + g->units - 1) / g->units), 14);
}

static int cn_flat_units_(const cn_geometry_ *g) {
  const int64_t rows = (int64_t)g->count * g->in_h * g->in_w;
  return cn_unit_count_((rows + cn_flat_rows_(g) - 1) / cn_flat_rows_(g));
}

/* ---- convolution: packed weights ---- */

/* Floats of a packed [depth][columns] matrix: columns rounded up to whole vectors. */
static size_t cn_packed_floats_(const cn_kernels_ *k, int depth, int columns) {
  return cn_times_((size_t)depth, (size_t)cn_round_up_(columns, k->lanes));
}

#define CN_GREY_POINTS_ 12 /* 3 kernel rows, each transformed to 4 points */

/* A map whose sides are no multiples of 4 may be covered by tiles of 4 and, at the ends, of 2.
   These need transformed weights of their own: three sets more, which must stay small. */
static int cn_winograd_mixes_(cn_algorithm_ algorithm, int out_h, int out_w, size_t floats) {
  const int rest_h = out_h % 4, rest_w = out_w % 4;
  return algorithm == CN_WINOGRAD4_ && (rest_h == 1 || rest_h == 2 || rest_w == 1 || rest_w == 2) &&
         floats <= 16384;
}

/* Sides of the tiles of each set of transformed weights. */
static const int cn_winograd_sizes_[4][2] = {{4, 4}, {4, 2}, {2, 4}, {2, 2}};

/* The sets that an algorithm needs: [*first, end). */
static int cn_winograd_sets_(cn_algorithm_ algorithm, int mixes, int *first) {
  *first = algorithm == CN_WINOGRAD2_ ? 3 : 0;
  return algorithm == CN_WINOGRAD2_ || mixes ? 4 : 1;
}

static int cn_winograd_positions_(int set) { /* of a patch */
  return (cn_winograd_sizes_[set][0] + 2) * (cn_winograd_sizes_[set][1] + 2);
}

/* Floats of one position's packed matrix in a pass. */
static size_t cn_winograd_plane_(const cn_kernels_ *k, const cn_geometry_ *g, cn_pass pass) {
  return pass == CN_FORWARD ? cn_packed_floats_(k, g->channels, g->filters)
                            : cn_packed_floats_(k, g->filters, g->channels);
}

/* The same for a pass of a convolution. */
static int cn_winograd_sets_of_(const cn_geometry_ *g, cn_algorithm_ algorithm, cn_pass pass,
                                int *first) {
  const int forward = pass != CN_BACKWARD_INPUT;
  const int mixes =
      cn_winograd_mixes_(algorithm, forward ? g->out_h : g->in_h, forward ? g->out_w : g->in_w,
                         cn_times_((size_t)g->channels, (size_t)g->filters));
  return cn_winograd_sets_(algorithm, mixes, first);
}

CN_API size_t cn_conv2d_packed_count(const cn_conv2d *conv, cn_pass pass) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_kernels_ *k = cn_current_();
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, &g, pass);
  const int taps = g.window.height * g.window.width;
  if (pass == CN_BACKWARD_WEIGHTS) return 0;
  switch (algorithm) {
  case CN_DEPTHWISE_:
    return cn_align_floats_((size_t)taps * (size_t)g.channels);
  case CN_GREY_:
    return cn_align_floats_(cn_packed_floats_(k, CN_GREY_POINTS_, g.filters));
  case CN_WINOGRAD2_:
  case CN_WINOGRAD4_: {
    int set, positions = 0;
    const int end = cn_winograd_sets_of_(&g, algorithm, pass, &set);
    for (; set < end; set++) positions += cn_winograd_positions_(set);
    return cn_align_floats_(
        cn_plus_(cn_times_((size_t)positions, cn_winograd_plane_(k, &g, pass)),
                 pass == CN_FORWARD ? 0 : cn_align_floats_((size_t)g.depth * (size_t)g.filters)));
  }
  default:
    return cn_align_floats_(cn_times_(
        (size_t)g.groups, pass == CN_FORWARD
                              ? cn_packed_floats_(k, g.depth, g.group_filters)
                              : cn_packed_floats_(k, taps * g.group_filters, g.group_channels)));
  }
}

/* Transforms 3x3 filters w[tap][rows][columns], taps in reverse for rotated ones, into a packed
   matrix [rows][columns] for each of the patch's positions. */
static void cn_winograd_pack_(const cn_kernels_ *k, int set, const float *w, int reverse, int rows,
                              int columns, float *packed) {
  const ptrdiff_t plane = (ptrdiff_t)cn_packed_floats_(k, rows, columns);
  const int panel = k->lanes * k->tile_vectors;
  int column, row, i;
  for (column = 0; column < columns; column += panel) {
    const int left = cn_min_(panel, columns - column), width = cn_round_up_(left, k->lanes);
    for (row = 0; row < rows; row++) {
      const float *at[9];
      for (i = 0; i < 9; i++)
        at[i] = w + ((ptrdiff_t)(reverse ? 8 - i : i) * rows + row) * columns + column;
      k->winograd_weights(cn_winograd_sizes_[set][0], cn_winograd_sizes_[set][1], at, left,
                          packed + (ptrdiff_t)column * rows + (ptrdiff_t)row * width, plane);
    }
  }
}

CN_API void cn_conv2d_pack(const cn_conv2d *conv, cn_pass pass, const float *weights,
                           float *packed) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_kernels_ *k = cn_current_();
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, &g, pass);
  const int taps = g.window.height * g.window.width;
  int group, tap;
  if (pass == CN_BACKWARD_WEIGHTS) return;
  if (algorithm == CN_DEPTHWISE_) {
    memcpy(packed, weights, (size_t)taps * (size_t)g.channels * sizeof(float));
  } else if (algorithm == CN_GREY_) {
    k->grey_weights(weights, g.filters, packed);
  } else if (algorithm == CN_WINOGRAD2_ || algorithm == CN_WINOGRAD4_) {
    const int forward = pass == CN_FORWARD;
    const size_t plane = cn_winograd_plane_(k, &g, pass);
    int set, end = cn_winograd_sets_of_(&g, algorithm, pass, &set);
    if (!forward) { /* transposed filters stand behind the packed ones */
      const size_t count = (size_t)g.depth * (size_t)g.filters;
      float *transposed = packed + cn_conv2d_packed_count(conv, pass) - cn_align_floats_(count);
      for (tap = 0; tap < 9; tap++)
        k->transpose(weights + (ptrdiff_t)tap * g.channels * g.filters, g.filters, g.channels,
                     g.filters, transposed + (ptrdiff_t)tap * g.channels * g.filters, g.channels);
      weights = transposed;
    }
    for (; set < end; set++) {
      cn_winograd_pack_(k, set, weights, !forward, forward ? g.channels : g.filters,
                        forward ? g.filters : g.channels, packed);
      packed += (size_t)cn_winograd_positions_(set) * plane;
    }
  } else if (pass == CN_FORWARD) {
    for (group = 0; group < g.groups; group++)
      k->pack_matrix(weights + group * g.group_filters, g.filters, 1, g.depth, g.group_filters,
                     packed + (size_t)group * cn_packed_floats_(k, g.depth, g.group_filters));
  } else { /* [tap][filter] rows, input channels as columns: panels must run through all taps */
    const int depth = taps * g.group_filters, panel = k->lanes * k->tile_vectors;
    int column;
    for (group = 0; group < g.groups; group++) {
      float *to = packed + (size_t)group * cn_packed_floats_(k, depth, g.group_channels);
      for (column = 0; column < g.group_channels; column += panel) {
        const int width = cn_min_(panel, g.group_channels - column);
        for (tap = 0; tap < taps; tap++) {
          k->pack_matrix(weights + ((ptrdiff_t)tap * g.group_channels + column) * g.filters +
                             group * g.group_filters,
                         1, g.filters, g.group_filters, width, to);
          to += cn_packed_floats_(k, g.group_filters, width);
        }
      }
    }
  }
}

/* Columns of matrices as cn_pack_matrix_ leaves them times a factor each. */
static void cn_scale_matrix_(int lanes, int panel, int depth, int columns, const float *factors,
                             float *packed) {
  int column, row, i;
  for (column = 0; column < columns; column += panel) {
    const int left = cn_min_(panel, columns - column), width = cn_round_up_(left, lanes);
    for (row = 0; row < depth; row++, packed += width)
      for (i = 0; i < left; i++) packed[i] *= factors[column + i];
  }
}

/* Multiplies each filter's weights, packed for the forward pass, by its factor: all that is done to
   weights before they are packed is linear. */
static void cn_scale_packed_(const cn_conv2d *conv, const float *factors, float *packed) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_kernels_ *k = cn_current_();
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, &g, CN_FORWARD);
  const int panel = k->lanes * k->tile_vectors;
  if (algorithm == CN_DEPTHWISE_) {
    cn_scale_matrix_(1, g.filters, g.window.height * g.window.width, g.filters, factors, packed);
  } else if (algorithm == CN_GREY_) {
    cn_scale_matrix_(k->lanes, k->lanes, CN_GREY_POINTS_, g.filters, factors, packed);
  } else if (algorithm == CN_WINOGRAD2_ || algorithm == CN_WINOGRAD4_) {
    int set, end = cn_winograd_sets_of_(&g, algorithm, CN_FORWARD, &set), i;
    for (; set < end; set++)
      for (i = 0; i < cn_winograd_positions_(set); i++) {
        cn_scale_matrix_(k->lanes, panel, g.channels, g.filters, factors, packed);
        packed += cn_winograd_plane_(k, &g, CN_FORWARD);
      }
  } else {
    int group;
    for (group = 0; group < g.groups; group++)
      cn_scale_matrix_(k->lanes, panel, g.depth, g.group_filters, factors + group * g.group_filters,
                       packed + (size_t)group * cn_packed_floats_(k, g.depth, g.group_filters));
  }
}

/* ---- convolution: padding ---- */

/* Where padded row or column i (0 is the first of the padding) lies in the input, -1 for a zero. */
static int cn_source_of_(int i, int before, int size, cn_padding padding) {
  i -= before;
  if (i >= 0 && i < size) return i;
  if (padding == CN_PADDING_REPLICATE) return i < 0 ? 0 : size - 1;
  if (padding == CN_PADDING_WRAP) return (i % size + size) % size;
  return -1;
}

static int cn_needs_padding_(const cn_geometry_ *g) {
  return g->window.pad_top || g->window.pad_left || g->padded_h > g->in_h || g->padded_w > g->in_w;
}

/* Rows [first, first + rows) of the padded image into to[rows][padded_w][channels]. */
static void cn_pad_rows_(const cn_geometry_ *g, const float *image, int first, int rows,
                         float *to) {
  const size_t channels = (size_t)g->channels, row_floats = (size_t)g->padded_w * channels;
  const int left = cn_min_(g->window.pad_left, g->padded_w);
  const int inside = cn_max_(0, cn_min_(g->in_w, g->padded_w - left));
  int i, x;
  for (i = 0; i < rows; i++, to += row_floats) {
    const int row = cn_source_of_(first + i, g->window.pad_top, g->in_h, g->window.padding);
    const float *from = image + (size_t)cn_max_(row, 0) * (size_t)g->in_w * channels;
    if (row < 0) {
      memset(to, 0, row_floats * sizeof(float));
      continue;
    }
    memcpy(to + (size_t)left * channels, from, (size_t)inside * channels * sizeof(float));
    if (g->window.padding == CN_PADDING_ZERO) {
      memset(to, 0, (size_t)left * channels * sizeof(float));
      memset(to + (size_t)(left + inside) * channels, 0,
             (size_t)(g->padded_w - left - inside) * channels * sizeof(float));
      continue;
    }
    for (x = 0; x < g->padded_w; x++) {
      int column;
      if (x == left && inside > 0) x += inside;
      if (x >= g->padded_w) break;
      column = cn_source_of_(x, g->window.pad_left, g->in_w, g->window.padding);
      memcpy(to + (size_t)x * channels, from + (size_t)column * channels, channels * sizeof(float));
    }
  }
}

/* Adds gradients of the padded image [in_h + pads][in_w + pads][channels] to where the values came
   from. */
static void cn_fold_padding_(const cn_kernels_ *k, const cn_geometry_ *g, const float *padded,
                             int rows, int columns, float *dx) {
  const size_t channels = (size_t)g->channels;
  int y, x;
  memset(dx, 0, (size_t)g->in_h * (size_t)g->in_w * channels * sizeof(float));
  for (y = 0; y < rows; y++) {
    const int row = cn_source_of_(y, g->window.pad_top, g->in_h, g->window.padding);
    for (x = 0; x < columns; x++) {
      const int column = cn_source_of_(x, g->window.pad_left, g->in_w, g->window.padding);
      float *to = dx + ((size_t)row * (size_t)g->in_w + (size_t)column) * channels;
      k->add(to, padded + ((size_t)y * (size_t)columns + (size_t)x) * channels, to, channels);
    }
  }
}

/* ---- convolution: a workspace is handed out piece by piece, aligned ---- */

static float *cn_take_(char **workspace, size_t floats) {
  float *piece = (float *)(void *)*workspace;
  *workspace += cn_align_floats_(floats) * sizeof(float);
  return piece;
}

static size_t cn_taps_bytes_(const cn_geometry_ *g) {
  const size_t taps = (size_t)g->window.height * (size_t)g->window.width;
  return cn_plus_(cn_times_(taps, sizeof(cn_segment_)), CN_ALIGNMENT_);
}

static cn_segment_ *cn_take_segments_(char **workspace, const cn_geometry_ *g) {
  cn_segment_ *piece = (cn_segment_ *)(void *)*workspace;
  *workspace += cn_align_bytes_(cn_taps_bytes_(g));
  return piece;
}

#define CN_SLACK_                                                                                  \
  64 /* floats that vector kernels may read or write behind a buffer of the workspace */

/* ---- convolution: forward, direct ---- */

/* Rows of the convolution per unit. */
static int cn_forward_block_(const cn_conv2d *conv, const cn_geometry_ *g) {
  return cn_rows_per_block_(g, g->out_h, conv->pool ? 2 : 1);
}

/* The summed index in runs: whole window rows where the values lie side by side, else single
   taps. */
static int cn_forward_segments_(const cn_geometry_ *g, ptrdiff_t pitch, cn_segment_ *segments,
                                int *depth) {
  const cn_window *w = &g->window;
  const int merge = g->groups == 1 && w->dilation_x == 1;
  int ky, kx, n = 0;
  *depth = merge ? w->width * g->channels : g->group_channels;
  for (ky = 0; ky < w->height; ky++) {
    for (kx = 0; kx < (merge ? 1 : w->width); kx++, n++) {
      segments[n].a =
          (ptrdiff_t)ky * w->dilation_y * pitch + (ptrdiff_t)kx * w->dilation_x * g->channels;
      segments[n].b = (ptrdiff_t)n * *depth;
    }
  }
  return n;
}

static void cn_forward_direct_(const cn_conv2d *conv, const cn_geometry_ *g, const float *x,
                               const float *packed, const float *bias, float *y, uint8_t *argmax,
                               int unit, char *workspace) {
  const cn_kernels_ *k = cn_current_();
  const cn_window *w = &g->window;
  const int block = cn_forward_block_(conv, g), blocks = cn_ceil_div_(g->out_h, block);
  const int image = unit / blocks, begin = unit % blocks * block,
            end = cn_min_(begin + block, g->out_h);
  const int depthwise = cn_algorithm_of_(conv, g, CN_FORWARD) == CN_DEPTHWISE_;
  const float *source = x + (size_t)image * (size_t)g->in_h * (size_t)g->in_w * (size_t)g->channels;
  const size_t row_floats = (size_t)g->out_w * (size_t)g->filters;
  cn_segment_ *segments = cn_take_segments_(&workspace, g);
  float *pool_rows = conv->pool ? cn_take_(&workspace, 2 * row_floats) : NULL;
  ptrdiff_t pitch = (ptrdiff_t)g->in_w * g->channels;
  int first_row = 0, row, group;
  cn_product_ product;
  if (cn_needs_padding_(g)) {
    float *padded = cn_take_(&workspace, 0);
    first_row = begin * w->stride_y;
    cn_pad_rows_(g, source, first_row,
                 (end - 1 - begin) * w->stride_y + w->dilation_y * (w->height - 1) + 1, padded);
    source = padded, pitch = (ptrdiff_t)g->padded_w * g->channels;
  }
  memset(&product, 0, sizeof product);
  product.segment_count = cn_forward_segments_(g, pitch, segments, &product.depth);
  product.rows = g->out_w, product.columns = g->group_filters, product.packed_depth = g->depth;
  product.segments = segments, product.a_stride = (ptrdiff_t)w->stride_x * g->channels;
  product.relu = conv->relu, product.c_stride = g->filters;
  for (row = begin; row < end; row++) {
    const float *from = source + (ptrdiff_t)(row * w->stride_y - first_row) * pitch;
    const size_t at = ((size_t)image * (size_t)g->y_h + (size_t)(conv->pool ? row / 2 : row)) *
                      (size_t)g->y_w * (size_t)g->filters;
    float *to = conv->pool ? pool_rows + (size_t)(row % 2) * row_floats : y + at;
    if (depthwise) {
      k->depthwise_row(from, product.a_stride, segments, product.segment_count, packed, bias,
                       conv->relu, g->out_w, g->channels, to);
    } else {
      for (group = 0; group < g->groups; group++) {
        product.a = from + group * g->group_channels;
        product.packed = packed + (size_t)group * cn_packed_floats_(k, g->depth, g->group_filters);
        product.bias = bias ? bias + group * g->group_filters : NULL;
        product.c = to + group * g->group_filters;
        k->product(&product);
      }
    }
    if (conv->pool && row % 2)
      k->pool_rows(pool_rows, (ptrdiff_t)row_floats, g->y_w, g->filters, y + at,
                   argmax ? argmax + at : NULL);
  }
}

/* ---- convolution: forward, first layer on grey pictures ---- */

/* Floats of one of a row's four planes: whole vectors. */
static ptrdiff_t cn_grey_plane_(const cn_geometry_ *g) {
  return cn_round_up_(g->out_w, CN_ALIGN_FLOATS_);
}

static void cn_forward_grey_(const cn_conv2d *conv, const cn_geometry_ *g, const float *x,
                             const float *packed, const float *bias, float *y, uint8_t *argmax,
                             int unit, char *workspace) {
  const int block = cn_forward_block_(conv, g), blocks = cn_ceil_div_(g->out_h, block);
  const int image = unit / blocks, begin = unit % blocks * block,
            end = cn_min_(begin + block, g->out_h);
  const float *source = x + (size_t)image * (size_t)g->in_h * (size_t)g->in_w;
  float *padded = cn_take_(&workspace, (size_t)(end - begin + 2) * (size_t)g->padded_w + CN_SLACK_);
  float *rows = cn_take_(&workspace, 0);
  int row;
  cn_grey_ grey;
  cn_pad_rows_(g, source, begin, end - begin + 2, padded);
  grey.plane = cn_grey_plane_(g), grey.windows = g->y_w, grey.filters = g->filters;
  grey.packed = packed, grey.bias = bias, grey.relu = conv->relu;
  for (row = 0; row < end - begin + 2; row++)
    cn_current_()->grey_row(padded + (ptrdiff_t)row * g->padded_w, g->out_w,
                            rows + 4 * row * grey.plane, grey.plane);
  for (row = begin; row < end; row += 2) {
    const size_t at =
        ((size_t)image * (size_t)g->y_h + (size_t)(row / 2)) * (size_t)g->y_w * (size_t)g->filters;
    grey.rows = rows + 4 * (row - begin) * grey.plane;
    grey.y = y + at, grey.argmax = argmax ? argmax + at : NULL;
    cn_current_()->grey(&grey);
  }
}

/* ---- convolution: flat products, and gradients that are mostly zero ----
   Behind ReLU, and more so behind dropout, few of a dense layer's gradients are not zero. Where
   that is so they are listed, and only what they contribute is computed. */

#define CN_MOSTLY_ZERO_ 0.6 /* at least this share is zero; with less, full tiles are as fast */
#define CN_LISTED_STEPS_ 2  /* of `sparse_row` in a block of rows: fewer do not pay for lists */
#define CN_LIST_ROWS_ 128   /* lists at a time: a unit's rows, or two runs of filters */
#define CN_LIST_FILTERS_ (CN_LIST_ROWS_ / 2)
#if CN_FLAT_ROWS_ > CN_LIST_ROWS_
#error "the lists of a unit's rows have no room"
#endif

typedef struct cn_lists_ {
  cn_spike_ spikes[CN_LIST_ROWS_][CN_LIST_DEPTH_ + CN_LIST_SLACK_];
  float turned[CN_LIST_FILTERS_ * CN_LIST_DEPTH_], sums[CN_LIST_FILTERS_ * CN_LIST_COLUMNS_];
  uint32_t offsets[CN_LIST_DEPTH_]; /* of the summed index's rows */
  int counts[CN_LIST_ROWS_];
} cn_lists_;

/* Workspace in which the rows of a matrix, `pitch` floats apart, are going to be added up. */
static cn_lists_ *cn_new_lists_(char *workspace, int pitch) {
  cn_lists_ *lists = (cn_lists_ *)(void *)workspace;
  int i;
  for (i = 0; i < CN_LIST_DEPTH_; i++) lists->offsets[i] = (uint32_t)i * (uint32_t)pitch;
  return lists;
}

/* values[rows][columns], `pitch` floats from row to row */
static int cn_mostly_zero_(const float *values, ptrdiff_t pitch, int rows, int columns) {
  const size_t zeros = cn_current_()->zeros(values, pitch, rows, columns);
  return (double)zeros >= CN_MOSTLY_ZERO_ * (double)rows * (double)columns;
}

/* The first columns of dx[rows][channels] = dy[rows][filters] * packed, at most CN_LIST_ROWS_ rows;
   returns how many columns. */
static int cn_flat_sparse_input_(const cn_geometry_ *g, const float *dy, const float *packed,
                                 int rows, float *dx, char *workspace) {
  const cn_kernels_ *k = cn_current_();
  const int panel = k->lanes * k->tile_vectors, step = k->sparse_columns;
  cn_lists_ *lists;
  int first, column, row;
  if (g->channels < step || !cn_mostly_zero_(dy, g->filters, rows, g->filters)) return 0;
  lists = cn_new_lists_(workspace, panel);
  for (first = 0; first < g->filters; first += CN_LIST_DEPTH_) {
    for (row = 0; row < rows; row++)
      lists->counts[row] = k->list(dy + (ptrdiff_t)row * g->filters + first, lists->offsets,
                                   cn_min_(CN_LIST_DEPTH_, g->filters - first), lists->spikes[row]);
    for (column = 0; g->channels - column >= step; column += step)
      for (row = 0; row < rows; row++)
        k->sparse_row(lists->spikes[row], lists->counts[row],
                      packed + (ptrdiff_t)column * g->filters + (ptrdiff_t)first * panel,
                      (ptrdiff_t)g->filters * panel, first > 0,
                      dx + (ptrdiff_t)row * g->channels + column);
  }
  return g->channels / step * step;
}

/* c = a * packed + bias for a unit's rows: the output from x, or dx from dy. */
static void cn_flat_unit_(const cn_geometry_ *g, cn_pass pass, const float *a, const float *packed,
                          const float *bias, int relu, float *c, int unit, char *workspace) {
  const cn_segment_ segment = {0, 0};
  const int forward = pass == CN_FORWARD, columns = forward ? g->filters : g->channels;
  const int64_t rows = (int64_t)g->count * g->in_h * g->in_w,
                begin = (int64_t)unit * cn_flat_rows_(g);
  int done;
  cn_product_ product;
  memset(&product, 0, sizeof product);
  product.rows = (int)(rows - begin < cn_flat_rows_(g) ? rows - begin : cn_flat_rows_(g));
  product.depth = product.packed_depth = forward ? g->channels : g->filters;
  product.segment_count = 1, product.segments = &segment;
  product.a = a + begin * product.depth, product.a_stride = product.depth;
  c += begin * columns;
  done = forward ? 0 : cn_flat_sparse_input_(g, product.a, packed, product.rows, c, workspace);
  product.columns = columns - done, product.packed = packed + (ptrdiff_t)done * product.depth;
  product.bias = bias, product.relu = relu; /* forward only, where nothing is done */
  product.c = c + done, product.c_stride = columns;
  if (done < columns) cn_current_()->product(&product);
}

/* ---- convolution: Winograd ---- */

/* Tiles of one size: a grid of them. */
typedef struct cn_tiles_ {
  int height, width;          /* results of a tile */
  int positions;              /* of its patch */
  int row, column;            /* of the first tile's first result */
  int rows, columns;          /* of the grid */
  const float *packed;        /* transformed weights */
  ptrdiff_t v;                /* where a share's transformed patches begin */
  ptrdiff_t v_plane, m_plane; /* floats of one position: of patches, of products or gradients */
} cn_tiles_;

/* One pass as a stride-1 3x3 convolution from source [in_h][in_w][channels] to
   [out_h][out_w][filters]. A share is several images, or some tile rows of one. A unit is a share
   for a block of the filters or, for the weights' gradient, a run of shares for a block of channels
   and filters. */
typedef struct cn_winograd_ {
  const cn_kernels_ *k;
  int count, in_h, in_w, channels, out_h, out_w, filters, pad_top, pad_left;
  const float *source, *bias;
  const uint8_t *spread; /* not NULL: source is pooled gradients, this says where they belong */
  int relu, pool;
  int units; /* wanted */
  float *y;
  uint8_t *argmax;
  cn_tiles_ tiles[4];
  int sizes; /* of tiles */
  int share_images, share_tile_rows, row_blocks;
  int filter_blocks, block_filters, channel_blocks, block_channels;
  int v_pitch, m_pitch;      /* floats between tiles: a block's channels and filters, rounded up */
  size_t v_floats, m_floats; /* of a share */
  size_t spread_floats;      /* of an image of pooled gradients, spread out */
} cn_winograd_;

/* What patches are cut from: a block of an image's channels, and how far its first patch begins
   outside it. */
typedef struct cn_winograd_source_ {
  const float *pixels;
  const float *zeros; /* a patch's row */
  ptrdiff_t pitch;    /* floats from pixel to pixel */
  int height, width, top, left;
} cn_winograd_source_;

#define CN_WINOGRAD_TILES_ 112         /* tiles that share a read of the transformed weights */
#define CN_WINOGRAD_LEAST_TILES_ 28    /* fewer leave the matrix tiles short of rows */
#define CN_WINOGRAD_UNITS_ 4           /* wanted where more would be small */
#define CN_WINOGRAD_LEAST_FILTERS_ 128 /* of a block: each block transforms the patches anew */
#define CN_WINOGRAD_MIX_IMAGES_ 4 /* of a share, for tiles of mixed sizes; all slices have them */
#define CN_WINOGRAD_SUMS_ 128     /* channels and filters of a block of the weights' gradient */

/* Images of a share, so that about `wanted` shares or more are to be had, but none is too small. */
static void cn_winograd_split_images_(cn_winograd_ *w, int tiles, int wanted) {
  w->share_images = cn_min_(CN_WINOGRAD_TILES_ / tiles, cn_ceil_div_(w->count, wanted));
  w->share_images = cn_max_(w->share_images, cn_min_(CN_WINOGRAD_LEAST_TILES_ / tiles, w->count));
  w->share_images = cn_max_(w->share_images, 1);
}

static void cn_winograd_split_filters_(cn_winograd_ *w, int blocks) {
  const int panel = w->k->lanes * w->k->tile_vectors;
  w->block_filters = cn_round_up_(cn_ceil_div_(w->filters, blocks), panel);
  w->filter_blocks = cn_ceil_div_(w->filters, w->block_filters);
}

/* Parts wanted of the weights' gradient beside its blocks. */
static int cn_winograd_parts_(const cn_winograd_ *w) {
  return cn_ceil_div_(CN_PARTS_, w->filter_blocks * w->channel_blocks);
}

static int cn_winograd_shares_(const cn_winograd_ *w) { /* that the images' tiles are cut into */
  return cn_unit_count_((int64_t)cn_ceil_div_(w->count, w->share_images) * w->row_blocks);
}

/* Shares and blocks from the numbers of uniform tiles. */
static void cn_winograd_split_(cn_winograd_ *w, int tile_rows, int tile_columns) {
  const int units_wanted = cn_min_(w->units, CN_WINOGRAD_UNITS_);
  int units;
  cn_winograd_split_images_(w, tile_rows * tile_columns, w->units);
  units = cn_max_(1, (int)(((int64_t)w->count + w->share_images / 2) / w->share_images));
  if (units < CN_WINOGRAD_UNITS_) w->share_images = cn_ceil_div_(w->count, units); /* even shares */
  w->share_tile_rows = tile_rows;
  if (w->share_images == 1) {
    const int wanted =
        cn_unit_count_(((int64_t)tile_rows * w->count + units_wanted - 1) / units_wanted);
    w->share_tile_rows = cn_min_(tile_rows, cn_max_(1, CN_WINOGRAD_TILES_ / tile_columns));
    if (wanted < w->share_tile_rows)
      w->share_tile_rows =
          cn_max_(wanted, cn_min_(w->share_tile_rows,
                                  cn_ceil_div_(CN_WINOGRAD_LEAST_TILES_, tile_columns)));
  }
  w->row_blocks = cn_ceil_div_(tile_rows, w->share_tile_rows);
  units = cn_winograd_shares_(w);
  cn_winograd_split_filters_(w, cn_max_(1, cn_min_(cn_ceil_div_(units_wanted, units),
                                                   w->filters / CN_WINOGRAD_LEAST_FILTERS_)));
  w->channel_blocks = 1, w->block_channels = w->channels;
}

/* The same for the weights' gradient: a unit adds up many shares, one by one, for a block of the
   channels and filters that keeps its sums for all positions small. */
static void cn_winograd_split_weights_(cn_winograd_ *w, int tile_rows, int tile_columns) {
  cn_winograd_split_filters_(w, cn_ceil_div_(w->filters, CN_WINOGRAD_SUMS_));
  w->channel_blocks = cn_ceil_div_(w->channels, CN_WINOGRAD_SUMS_);
  w->block_channels = cn_ceil_div_(w->channels, w->channel_blocks);
  cn_winograd_split_images_(w, tile_rows * tile_columns, cn_winograd_parts_(w));
  w->row_blocks = cn_ceil_div_(tile_rows, cn_max_(1, CN_WINOGRAD_TILES_ / tile_columns));
  w->share_tile_rows = cn_ceil_div_(tile_rows, w->row_blocks);
  w->row_blocks = cn_ceil_div_(tile_rows, w->share_tile_rows);
}

/* Floats between neighbouring tiles: not a multiple of 1024 bytes, so that one channel of all tiles
   spreads over the whole cache. */
static int cn_pitch_(int channels) {
  const int floats = cn_round_up_(channels, CN_ALIGN_FLOATS_);
  return floats % 256 == 0 ? floats + CN_ALIGN_FLOATS_ : floats;
}

/* Floats between the planes of one patch position: a multiple of 4096 bytes would make all of them
   compete for the same cache lines. */
static size_t cn_plane_floats_(int tiles, int pitch) {
  const size_t floats = cn_times_((size_t)tiles, (size_t)pitch);
  return floats % 1024 == 0 ? cn_plus_(floats, CN_ALIGN_FLOATS_) : floats;
}

/* Tiles of a share's images that one of its sizes has. */
static int cn_winograd_share_tiles_(const cn_winograd_ *w, const cn_tiles_ *tiles) {
  return w->share_images * cn_min_(tiles->rows, w->share_tile_rows) * tiles->columns;
}

/* Adds tiles of a size at their place in the map, and what a share needs for them. */
static void cn_winograd_add_tiles_(cn_winograd_ *w, int set, int row, int column, int rows,
                                   int columns, const float *packed) {
  cn_tiles_ *tiles = &w->tiles[w->sizes];
  size_t v_plane, m_plane, m_floats;
  if (rows < 1 || columns < 1) return;
  w->sizes++;
  tiles->height = cn_winograd_sizes_[set][0], tiles->width = cn_winograd_sizes_[set][1];
  tiles->positions = cn_winograd_positions_(set);
  tiles->row = row, tiles->column = column, tiles->rows = rows, tiles->columns = columns;
  tiles->packed = packed;
  v_plane = cn_plane_floats_(cn_winograd_share_tiles_(w, tiles), w->v_pitch);
  m_plane = cn_plane_floats_(cn_winograd_share_tiles_(w, tiles), w->m_pitch);
  tiles->v = (ptrdiff_t)w->v_floats;
  tiles->v_plane = (ptrdiff_t)v_plane, tiles->m_plane = (ptrdiff_t)m_plane;
  w->v_floats = cn_plus_(w->v_floats, cn_times_((size_t)tiles->positions, v_plane));
  m_floats = cn_times_((size_t)tiles->positions, m_plane);
  if (m_floats > w->m_floats) w->m_floats = m_floats;
}

/* Tiles of 4 along a side that is covered by 4s and, at its end, a 2. */
static int cn_winograd_fours_(int size) {
  return size / 4 + (size % 4 == 3);
}

static cn_winograd_ cn_winograd_setup_(const cn_conv2d *conv, const cn_geometry_ *g, cn_pass pass,
                                       const float *packed) {
  const cn_algorithm_ algorithm = cn_winograd_of_(conv);
  cn_winograd_ w;
  int size, set, sets, rows, columns;
  memset(&w, 0, sizeof w);
  w.k = cn_current_();
  w.count = g->count, w.units = g->units;
  if (pass == CN_BACKWARD_INPUT) {
    w.in_h = g->out_h, w.in_w = g->out_w, w.channels = g->filters, w.filters = g->channels;
    w.out_h = g->in_h, w.out_w = g->in_w;
    w.pad_top = 2 - g->window.pad_top, w.pad_left = 2 - g->window.pad_left;
    if (conv->pool)
      w.spread_floats = cn_product3_((size_t)w.in_h, (size_t)w.in_w, (size_t)w.channels);
  } else {
    w.in_h = g->in_h, w.in_w = g->in_w, w.channels = g->channels, w.filters = g->filters;
    w.out_h = g->out_h, w.out_w = g->out_w, w.pad_top = g->window.pad_top,
    w.pad_left = g->window.pad_left;
    w.relu = conv->relu, w.pool = conv->pool;
  }
  sets = cn_winograd_sets_of_(g, algorithm, pass, &set);
  if (pass == CN_BACKWARD_WEIGHTS && w.out_h <= 2 && w.out_w <= 2) set = 3; /* 2x2 suffices */
  size = cn_winograd_sizes_[set][0];
  rows = cn_ceil_div_(w.out_h, size), columns = cn_ceil_div_(w.out_w, size);
  if (pass == CN_BACKWARD_WEIGHTS)
    cn_winograd_split_weights_(&w, rows, columns);
  else
    cn_winograd_split_(&w, rows, columns);
  w.v_pitch = cn_pitch_(w.block_channels), w.m_pitch = cn_pitch_(w.block_filters);
  /* Mixed sizes take whole images: their rows of tiles do not begin and end together. */
  if (pass == CN_BACKWARD_WEIGHTS || set + 1 == sets || w.row_blocks > 1 ||
      (w.share_images < CN_WINOGRAD_MIX_IMAGES_ && !conv->alone)) {
    cn_winograd_add_tiles_(&w, set, 0, 0, rows, columns, packed);
  } else {
    rows = cn_winograd_fours_(w.out_h), columns = cn_winograd_fours_(w.out_w);
    for (; set < sets; set++) {
      const int fours_down = cn_winograd_sizes_[set][0] == 4,
                fours_across = cn_winograd_sizes_[set][1] == 4;
      cn_winograd_add_tiles_(&w, set, fours_down ? 0 : 4 * rows, fours_across ? 0 : 4 * columns,
                             fours_down ? rows : 4 * rows < w.out_h,
                             fours_across ? columns : 4 * columns < w.out_w, packed);
      if (packed) packed += (size_t)cn_winograd_positions_(set) * cn_winograd_plane_(w.k, g, pass);
    }
  }
  return w;
}

/* Floats of one channel's sums: for each position a block's filters. */
static ptrdiff_t cn_winograd_sum_pitch_(const cn_winograd_ *w) {
  return (ptrdiff_t)w->tiles[0].positions * w->m_pitch;
}

static size_t cn_winograd_zeros_(const cn_winograd_ *w) { /* floats of a row outside an image */
  return CN_PATCH_SIDE_ * (size_t)cn_max_(w->channels, w->filters);
}

static size_t cn_winograd_floats_(const cn_winograd_ *w, cn_pass pass) { /* of a unit */
  const size_t sums =
      pass == CN_BACKWARD_WEIGHTS ? (size_t)(w->block_channels * cn_winograd_sum_pitch_(w)) : 0;
  return cn_plus_(cn_plus_(w->v_floats, w->m_floats),
                  cn_plus_(w->spread_floats, cn_winograd_zeros_(w) + sums));
}

/* For this many images or fewer: how a batch is cut into units depends on its size. */
static size_t cn_winograd_workspace_(const cn_conv2d *conv, const cn_geometry_ *g, cn_pass pass) {
  const int most_that_matter = 16 * CN_WINOGRAD_TILES_;
  cn_geometry_ some = *g;
  size_t most, floats;
  cn_winograd_ w = cn_winograd_setup_(conv, g, pass, NULL);
  most = cn_winograd_floats_(&w, pass);
  for (some.count = cn_min_(g->count, most_that_matter); some.count > 0; some.count--) {
    w = cn_winograd_setup_(conv, &some, pass, NULL);
    floats = cn_winograd_floats_(&w, pass);
    if (floats > most) most = floats;
  }
  return cn_plus_(cn_times_(cn_plus_(most, 6 * CN_SLACK_), sizeof(float)), 5 * CN_ALIGNMENT_);
}

/* Pooled gradients of one image back to the convolution's own rows. */
static void cn_unpool_image_(const cn_kernels_ *k, const float *dy, const uint8_t *argmax,
                             int y_begin, int y_end, int width, int channels, float *dz,
                             ptrdiff_t pitch) {
  int row;
  for (row = y_begin; row < y_end; row++) {
    const size_t at = (size_t)row * (size_t)width * (size_t)channels;
    k->unpool_row(dy + at, argmax + at, width, channels, dz, pitch);
    dz += 2 * pitch;
  }
}

/* The first pixels of a patch's rows at `row`; NULL for rows outside the image. */
static void cn_winograd_rows_(const cn_winograd_source_ *source, int row, int height,
                              const float **rows) {
  const ptrdiff_t row_floats = source->width * source->pitch;
  int i;
  for (i = 0; i < height; i++) {
    const int y = row - source->top + i;
    rows[i] = y >= 0 && y < source->height ? source->pixels + y * row_floats : NULL;
  }
}

/* The pixels of these rows at `column`. */
static void cn_winograd_patch_(const cn_winograd_source_ *source, const float *const *rows,
                               int column, int height, int width, cn_patch_ *patch) {
  const int x = column - source->left;
  const ptrdiff_t at = cn_min_(cn_max_(x, 0), source->width - 1) * source->pitch;
  int i;
  patch->column_stride = source->pitch;
  patch->first = cn_min_(cn_max_(-x, 0), width);
  patch->end = cn_max_(cn_min_(source->width - x, width), patch->first);
  for (i = 0; i < height; i++) patch->rows[i] = rows[i] ? rows[i] + at : source->zeros;
}

/* What is worked on at a time. */
typedef struct cn_winograd_share_ {
  int first, last;        /* images */
  int row_begin, row_end; /* rows of tiles */
  int channel, channels, filter, filters;
  const float *zeros;
  float *v, *m, *image;
} cn_winograd_share_;

/* Where a share's rows of tiles of one size end, and how many tiles its images have of it. */
static int cn_winograd_row_end_(const cn_winograd_share_ *share, const cn_tiles_ *tiles) {
  return cn_min_(share->row_end, tiles->rows);
}

static int cn_winograd_tile_count_(const cn_winograd_share_ *share, const cn_tiles_ *tiles) {
  return (share->last - share->first) * (cn_winograd_row_end_(share, tiles) - share->row_begin) *
         tiles->columns;
}

/* The source of one image's patches. Pooled gradients are spread out first, in the rows that the
   share reads. */
static cn_winograd_source_ cn_winograd_source_of_(const cn_winograd_ *w,
                                                  const cn_winograd_share_ *share, int image) {
  const ptrdiff_t row_floats = (ptrdiff_t)w->in_w * w->channels;
  const size_t at = (size_t)image * (size_t)w->in_h * (size_t)row_floats;
  cn_winograd_source_ source;
  source.zeros = share->zeros;
  source.pitch = w->channels, source.height = w->in_h, source.width = w->in_w;
  source.top = w->pad_top, source.left = w->pad_left;
  if (w->spread) {
    const int height = w->tiles[0].height;
    const int begin = cn_max_(share->row_begin * height - w->pad_top, 0) & ~1,
              end = cn_min_(share->row_end * height + 2 - w->pad_top, w->in_h);
    cn_unpool_image_(w->k, w->source + at / 4, w->spread + at / 4, begin / 2, cn_ceil_div_(end, 2),
                     w->in_w / 2, w->channels, share->image + begin * row_floats, row_floats);
    source.pixels = share->image;
  } else {
    source.pixels = w->source + at + share->channel;
  }
  return source;
}

static void cn_winograd_patches_(const cn_winograd_ *w, const cn_winograd_share_ *share) {
  float *v[4];
  int image, row, column, i;
  for (i = 0; i < w->sizes; i++) v[i] = share->v + w->tiles[i].v;
  for (image = share->first; image < share->last; image++) {
    const cn_winograd_source_ source = cn_winograd_source_of_(w, share, image);
    for (i = 0; i < w->sizes; i++) {
      const cn_tiles_ *tiles = &w->tiles[i];
      const int height = tiles->height, width = tiles->width;
      for (row = share->row_begin; row < cn_winograd_row_end_(share, tiles); row++) {
        const float *rows[CN_PATCH_SIDE_];
        cn_winograd_rows_(&source, tiles->row + row * height, height + 2, rows);
        for (column = 0; column < tiles->columns; column++, v[i] += w->v_pitch) {
          cn_patch_ patch;
          cn_winograd_patch_(&source, rows, tiles->column + column * width, height + 2, width + 2,
                             &patch);
          w->k->winograd_input(height, width, &patch, share->channels, v[i], tiles->v_plane);
        }
      }
    }
  }
}

static void cn_winograd_products_(const cn_winograd_ *w, const cn_winograd_share_ *share,
                                  const cn_tiles_ *tiles) {
  const size_t plane = cn_packed_floats_(w->k, w->channels, w->filters);
  const cn_segment_ segment = {0, 0};
  cn_product_ product;
  int position;
  memset(&product, 0, sizeof product);
  product.rows = cn_winograd_tile_count_(share, tiles), product.columns = share->filters;
  product.depth = product.packed_depth = w->channels;
  product.segment_count = 1, product.segments = &segment;
  product.a_stride = w->v_pitch;
  product.c_stride = w->m_pitch;
  for (position = 0; position < tiles->positions; position++) {
    product.a = share->v + tiles->v + position * tiles->v_plane;
    product.packed =
        tiles->packed + (size_t)position * plane + (size_t)share->filter * (size_t)w->channels;
    product.c = share->m + position * tiles->m_plane;
    w->k->product(&product);
  }
}

/* A cleared row outside all images, from the workspace of a unit. */
static const float *cn_winograd_take_zeros_(const cn_winograd_ *w, char **workspace) {
  const size_t count = cn_winograd_zeros_(w);
  float *zeros = cn_take_(workspace, count + CN_SLACK_);
  memset(zeros, 0, count * sizeof *zeros);
  return zeros;
}

/* Share `number` of the images' tiles, with a block of the channels and of the filters. */
static cn_winograd_share_ cn_winograd_share_of_(const cn_winograd_ *w, int number,
                                                int channel_block, int filter_block,
                                                const float *zeros, char *workspace) {
  cn_winograd_share_ share;
  share.first = number / w->row_blocks * w->share_images;
  share.last = cn_min_(share.first + w->share_images, w->count);
  share.row_begin = number % w->row_blocks * w->share_tile_rows;
  share.row_end = share.row_begin + w->share_tile_rows;
  share.channel = channel_block * w->block_channels;
  share.channels = cn_min_(w->block_channels, w->channels - share.channel);
  share.filter = filter_block * w->block_filters;
  share.filters = cn_min_(w->block_filters, w->filters - share.filter);
  share.zeros = zeros;
  share.v = cn_take_(&workspace, w->v_floats + CN_SLACK_);
  share.m = cn_take_(&workspace, w->m_floats + CN_SLACK_);
  share.image = cn_take_(&workspace, 0);
  return share;
}

/* The results of a share's tiles of one size, from their products. */
static void cn_winograd_results_(const cn_winograd_ *w, const cn_winograd_share_ *share,
                                 const cn_tiles_ *tiles) {
  const int cell = w->pool ? 2 : 1; /* results to a side of what is written */
  const int y_h = w->out_h / cell, y_w = w->out_w / cell;
  const float *m = share->m;
  int image, row, column;
  cn_winograd_out_ out;
  out.bias = w->bias ? w->bias + share->filter : NULL;
  out.height = tiles->height, out.width = tiles->width;
  out.relu = w->relu, out.pool = w->pool, out.channels = share->filters;
  out.row_stride = (ptrdiff_t)y_w * w->filters, out.column_stride = w->filters;
  for (image = share->first; image < share->last; image++) {
    for (row = share->row_begin; row < cn_winograd_row_end_(share, tiles); row++) {
      const int top = tiles->row + row * tiles->height;
      size_t at = (((size_t)image * (size_t)y_h + (size_t)(top / cell)) * (size_t)y_w +
                   (size_t)(tiles->column / cell)) *
                      (size_t)w->filters +
                  (size_t)share->filter;
      out.rows = cn_min_(tiles->height, w->out_h - top);
      for (column = 0; column < tiles->columns; column++, m += w->m_pitch) {
        out.columns = cn_min_(tiles->width, w->out_w - (tiles->column + column * tiles->width));
        out.y = w->y + at, out.argmax = w->argmax ? w->argmax + at : NULL;
        w->k->winograd_output(&out, m, tiles->m_plane);
        at += (size_t)(tiles->width / cell) * (size_t)w->filters;
      }
    }
  }
}

static void cn_winograd_unit_(const cn_winograd_ *w, int unit, char *workspace) {
  const float *zeros = cn_winograd_take_zeros_(w, &workspace);
  const cn_winograd_share_ share = cn_winograd_share_of_(w, unit / w->filter_blocks, 0,
                                                         unit % w->filter_blocks, zeros, workspace);
  int i;
  cn_winograd_patches_(w, &share);
  for (i = 0; i < w->sizes; i++) {
    const cn_tiles_ *tiles = &w->tiles[i];
    cn_winograd_products_(w, &share, tiles);
    cn_winograd_results_(w, &share, tiles);
  }
}

/* ---- convolution: backward-input, direct ---- */

/* Zero columns left and right of the gradients so that every tap of every input position reads
   inside. */
static int cn_backward_left_(const cn_geometry_ *g) {
  return ((g->window.width - 1) * g->window.dilation_x + g->window.stride_x - 1) /
         g->window.stride_x;
}

static int cn_backward_columns_(const cn_geometry_ *g) { /* of padded input with a gradient */
  return g->window.padding == CN_PADDING_ZERO ? g->window.pad_left + g->in_w
                                              : g->window.pad_left + g->in_w + g->window.pad_right;
}

static int cn_backward_right_(const cn_geometry_ *g) {
  return cn_max_(0, (cn_backward_columns_(g) - 1) / g->window.stride_x - (g->out_w - 1));
}

static int cn_backward_block_(const cn_geometry_ *g) {
  return g->window.padding == CN_PADDING_ZERO ? cn_rows_per_block_(g, g->in_h, 1) : g->in_h;
}

/* Gradients of padded input row py, columns [begin, end), into to[end - begin][channels]. dz points
   to the convolution's row dz_first, with margins. */
static void cn_backward_row_(const cn_geometry_ *g, const float *dz, int dz_first,
                             ptrdiff_t dz_pitch, const float *packed, int py, int begin, int end,
                             cn_segment_ *segments, float *to) {
  const cn_kernels_ *k = cn_current_();
  const cn_window *w = &g->window;
  const int left = cn_backward_left_(g);
  int phase, ky, kx, group, column;
  for (phase = 0; phase < w->stride_x; phase++) {
    const int first = begin + ((phase - begin) % w->stride_x + w->stride_x) % w->stride_x;
    const int rows = first < end ? (end - 1 - first) / w->stride_x + 1 : 0;
    int n = 0;
    if (rows == 0) continue;
    for (ky = 0; ky < w->height; ky++) {
      const int from = py - ky * w->dilation_y, row = from / w->stride_y;
      if (from < 0 || from % w->stride_y || row >= g->out_h) continue;
      for (kx = 0; kx < w->width; kx++) {
        const int shift = first - kx * w->dilation_x;
        if (shift % w->stride_x) continue;
        segments[n].a = (ptrdiff_t)(row - dz_first) * dz_pitch +
                        (ptrdiff_t)(left + shift / w->stride_x) * g->filters;
        segments[n++].b = (ptrdiff_t)(ky * w->width + kx) * g->group_filters;
      }
    }
    if (n == 0) {
      for (column = first; column < end; column += w->stride_x)
        memset(to + (ptrdiff_t)(column - begin) * g->channels, 0,
               (size_t)g->channels * sizeof(float));
      continue;
    }
    for (group = 0; group < g->groups; group++) {
      const int depth = w->height * w->width * g->group_filters;
      cn_product_ product;
      memset(&product, 0, sizeof product);
      product.rows = rows, product.columns = g->group_channels, product.depth = g->group_filters;
      product.packed_depth = depth, product.segment_count = n, product.segments = segments;
      product.a = dz + group * g->group_filters, product.a_stride = g->filters;
      product.packed = packed + (size_t)group * cn_packed_floats_(k, depth, g->group_channels);
      product.c = to + (ptrdiff_t)(first - begin) * g->channels + group * g->group_channels;
      product.c_stride = (ptrdiff_t)w->stride_x * g->channels;
      k->product(&product);
    }
  }
}

/* The same for a depthwise convolution: each gradient is spread over its window. */
static void cn_backward_row_depthwise_(const cn_geometry_ *g, const float *dz, int dz_first,
                                       ptrdiff_t dz_pitch, const float *weights, int py, int begin,
                                       int end, float *to) {
  const cn_kernels_ *k = cn_current_();
  const cn_window *w = &g->window;
  const int left = cn_backward_left_(g);
  int ky, kx, ox;
  memset(to, 0, (size_t)(end - begin) * (size_t)g->channels * sizeof(float));
  for (ky = 0; ky < w->height; ky++) {
    const int from = py - ky * w->dilation_y, row = from / w->stride_y;
    const float *gradients =
        dz + (ptrdiff_t)(row - dz_first) * dz_pitch + (ptrdiff_t)left * g->filters;
    if (from < 0 || from % w->stride_y || row >= g->out_h) continue;
    for (ox = 0; ox < g->out_w; ox++) {
      for (kx = 0; kx < w->width; kx++) {
        const int px = ox * w->stride_x + kx * w->dilation_x;
        if (px >= begin && px < end)
          k->multiply_add(gradients + (ptrdiff_t)ox * g->filters,
                          weights + (ptrdiff_t)(ky * w->width + kx) * g->channels,
                          to + (ptrdiff_t)(px - begin) * g->channels, g->channels);
      }
    }
  }
}

/* Rows of the convolution that padded input rows [begin, end) contribute to. */
static void cn_reaching_rows_(const cn_geometry_ *g, int begin, int end, int *first, int *last) {
  const int span = g->window.dilation_y * (g->window.height - 1);
  *first = cn_max_(0, begin - span + g->window.stride_y - 1) / g->window.stride_y;
  *last = cn_min_(g->out_h, (end - 1) / g->window.stride_y + 1);
  if (*first > *last) *first = *last;
}

/* Copies or unpools rows [first, last) of the gradients between zero margins. */
static void cn_margin_rows_(const cn_conv2d *conv, const cn_geometry_ *g, const float *dy,
                            const uint8_t *argmax, int first, int last, int left, int right,
                            float *dz) {
  const size_t filters = (size_t)g->filters, width = (size_t)g->out_w,
               pitch = ((size_t)(left + right) + width) * filters;
  int row;
  for (row = first; row < last; row++) {
    float *to = dz + (size_t)(row - first) * pitch;
    memset(to, 0, (size_t)left * filters * sizeof(float));
    memset(to + ((size_t)left + width) * filters, 0, (size_t)right * filters * sizeof(float));
    if (!conv->pool)
      memcpy(to + (size_t)left * filters, dy + (size_t)row * width * filters,
             width * filters * sizeof(float));
  }
  if (conv->pool)
    cn_unpool_image_(cn_current_(), dy, argmax, first / 2, cn_ceil_div_(last, 2), g->y_w,
                     g->filters, dz + (size_t)left * filters, (ptrdiff_t)pitch);
}

static void cn_backward_input_direct_(const cn_conv2d *conv, const cn_geometry_ *g, const float *dy,
                                      const uint8_t *argmax, const float *packed, float *dx,
                                      int unit, char *workspace) {
  const int block = cn_backward_block_(g), blocks = cn_ceil_div_(g->in_h, block);
  const int image = unit / blocks, fold = g->window.padding != CN_PADDING_ZERO;
  const int begin = fold ? 0 : unit % blocks * block + g->window.pad_top;
  const int end = fold ? g->window.pad_top + g->in_h + g->window.pad_bottom
                       : cn_min_(begin + block, g->in_h + g->window.pad_top);
  const int column_begin = fold ? 0 : g->window.pad_left, column_end = cn_backward_columns_(g);
  const int left = cn_backward_left_(g), right = cn_backward_right_(g);
  const ptrdiff_t pitch = (ptrdiff_t)(left + g->out_w + right) * g->filters;
  const size_t y_floats = (size_t)g->y_h * (size_t)g->y_w * (size_t)g->filters;
  const size_t row_floats = (size_t)(column_end - column_begin) * (size_t)g->channels;
  float *image_dx = dx + (size_t)image * (size_t)g->in_h * (size_t)g->in_w * (size_t)g->channels;
  cn_segment_ *segments = cn_take_segments_(&workspace, g);
  float *rows = fold ? cn_take_(&workspace, (size_t)(end - begin) * row_floats)
                     : image_dx + (size_t)(begin - g->window.pad_top) * row_floats;
  float *dz = cn_take_(&workspace, 0);
  const int depthwise = cn_algorithm_of_(conv, g, CN_BACKWARD_INPUT) == CN_DEPTHWISE_;
  int first, last, row;
  cn_reaching_rows_(g, begin, end, &first, &last);
  if (conv->pool) first &= ~1;
  cn_margin_rows_(conv, g, dy + (size_t)image * y_floats,
                  argmax ? argmax + (size_t)image * y_floats : NULL, first, last, left, right, dz);
  for (row = begin; row < end; row++) {
    float *to = rows + (size_t)(row - begin) * row_floats;
    if (depthwise)
      cn_backward_row_depthwise_(g, dz, first, pitch, packed, row, column_begin, column_end, to);
    else
      cn_backward_row_(g, dz, first, pitch, packed, row, column_begin, column_end, segments, to);
  }
  if (fold) cn_fold_padding_(cn_current_(), g, rows, end - begin, column_end, image_dx);
}

/* ---- convolution: gradients of the weights ---- */

/* Parts are sums over a share of the images or of their tiles; blocks share one part's matrix. Both
   depend on the shapes only, never on the number of threads. */
typedef struct cn_weight_split_ {
  int parts, blocks, filter_blocks; /* a flat product's blocks also share the filters */
  int most_parts;                   /* of this many images or fewer */
  int rows; /* of a part's matrix, of row_floats each; CN_SPARSE_ has its own, see there */
  size_t row_floats;
  size_t part_floats; /* weights, then bias, aligned */
} cn_weight_split_;

#define CN_PARTS_FLOATS_ ((size_t)4 << 20) /* keeps the parts of large layers in bounds */
#define CN_BLOCK_VECTORS_ 8      /* of channels of a sparse block: each lists the gradients anew */
#define CN_FLAT_FILTER_BLOCKS_ 4 /* at most: blocks of other filters list other gradients */
#define CN_FLAT_PIXELS_ (2 * CN_LIST_DEPTH_) /* per pass over the weights' gradient */

/* Whether a flat product's gradient has rows enough for blocks that pay for their lists. */
static int cn_has_listed_rows_(const cn_geometry_ *g) {
  return g->depth >= 2 * CN_LISTED_STEPS_ * cn_current_()->sparse_columns;
}

static cn_weight_split_ cn_weight_split_of_(const cn_conv2d *conv, const cn_geometry_ *g) {
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, g, CN_BACKWARD_WEIGHTS);
  const size_t weights = (size_t)g->depth * (size_t)g->filters;
  const int most = (int)(CN_PARTS_FLOATS_ / weights);
  cn_weight_split_ split;
  split.parts = cn_max_(1, cn_min_(cn_min_(g->count, CN_PARTS_), most));
  split.blocks = split.filter_blocks = 1, split.most_parts = 0;
  split.rows = g->depth, split.row_floats = (size_t)g->filters;
  if (algorithm == CN_WINOGRAD2_ || algorithm == CN_WINOGRAD4_) {
    const cn_winograd_ w = cn_winograd_setup_(conv, g, CN_BACKWARD_WEIGHTS, NULL);
    split.blocks = w.channel_blocks * w.filter_blocks;
    split.most_parts = cn_max_(1, cn_min_(cn_winograd_parts_(&w), most));
    split.parts = cn_min_(cn_winograd_shares_(&w), split.most_parts);
  } else if (algorithm == CN_FLAT_) {
    const cn_kernels_ *k = cn_current_();
    const int64_t pixels = (int64_t)g->count * g->in_h * g->in_w;
    const int least_rows = cn_has_listed_rows_(g) ? CN_LISTED_STEPS_ * k->sparse_columns : 14;
    split.filter_blocks =
        cn_max_(1, cn_min_(CN_FLAT_FILTER_BLOCKS_, g->filters / (k->lanes * k->tile_vectors)));
    split.blocks = cn_max_(1, cn_min_(2 * CN_PARTS_ / split.filter_blocks, g->depth / least_rows));
    split.blocks *= split.filter_blocks;
    split.parts =
        (int)(pixels / CN_FLAT_PIXELS_ < CN_PARTS_ ? pixels / CN_FLAT_PIXELS_ : CN_PARTS_);
    split.parts =
        cn_max_(1, cn_min_(split.parts, cn_min_(most, cn_ceil_div_(2 * CN_PARTS_, split.blocks))));
  } else if (algorithm == CN_SPARSE_) {
    const int lanes = cn_current_()->lanes, vectors = cn_ceil_div_(g->channels, lanes);
    split.blocks = cn_max_(1, cn_min_(CN_PARTS_ / split.parts, vectors / CN_BLOCK_VECTORS_));
    split.rows = vectors * g->filters;
    split.row_floats = (size_t)g->window.height * (size_t)g->window.width * (size_t)lanes;
  } else if (algorithm == CN_DIRECT_ && g->groups == 1) {
    split.blocks = cn_max_(1, cn_min_(CN_PARTS_ / split.parts, g->depth / 14));
  }
  split.most_parts = cn_max_(split.most_parts, split.parts);
  split.part_floats = cn_plus_(cn_align_floats_(cn_times_((size_t)split.rows, split.row_floats)),
                               cn_align_floats_((size_t)g->filters));
  return split;
}

/* Where the parts go. Bias may be NULL: then nobody asks for it. */
typedef struct cn_parts_ {
  float *weights, *bias;
  size_t floats; /* from one part to the next */
} cn_parts_;

static cn_parts_ cn_parts_in_(const cn_geometry_ *g, const cn_weight_split_ *split,
                              float *partial) {
  cn_parts_ parts;
  parts.weights = partial, parts.floats = split->part_floats;
  parts.bias = partial + split->part_floats - cn_align_floats_((size_t)g->filters);
  return parts;
}

static cn_parts_ cn_part_(const cn_parts_ *parts, int number) {
  cn_parts_ part = *parts;
  part.weights += (size_t)number * parts->floats;
  if (part.bias) part.bias += (size_t)number * parts->floats;
  return part;
}

/* Whether there is only one, in the order of weights: it may be written where the gradient goes. */
static int cn_one_part_(const cn_conv2d *conv) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  return cn_weight_split_of_(conv, &g).most_parts == 1 &&
         cn_algorithm_of_(conv, &g, CN_BACKWARD_WEIGHTS) != CN_SPARSE_;
}

CN_API size_t cn_conv2d_partial_count(const cn_conv2d *conv) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_weight_split_ split = cn_weight_split_of_(conv, &g);
  return cn_times_((size_t)split.most_parts, split.part_floats);
}

/* dW of one image as an outer product over its pixels, rows [begin, end) of the weight matrix. */
static void cn_weights_direct_(const cn_geometry_ *g, const float *x, ptrdiff_t pitch,
                               const float *dz, int begin, int end, int accumulate, float *dw) {
  const cn_kernels_ *k = cn_current_();
  const cn_window *w = &g->window;
  const int merge = g->groups == 1 && w->dilation_x == 1;
  const int run = merge ? w->width * g->channels : g->group_channels;
  int ky, kx, group;
  cn_outer_ outer;
  memset(&outer, 0, sizeof outer);
  outer.columns = g->group_filters, outer.depth = g->out_w, outer.segment_count = g->out_h;
  outer.a_step = (ptrdiff_t)w->stride_x * g->channels,
  outer.a_segment = (ptrdiff_t)w->stride_y * pitch;
  outer.b_step = g->filters, outer.b_segment = (ptrdiff_t)g->out_w * g->filters;
  outer.accumulate = accumulate, outer.c_stride = g->filters;
  for (ky = 0; ky < w->height; ky++) {
    for (kx = 0; kx < (merge ? 1 : w->width); kx++) {
      const int first = (merge ? ky : ky * w->width + kx) * run;
      const int from = cn_max_(begin, first), to = cn_min_(end, first + run);
      if (from >= to) continue;
      for (group = 0; group < g->groups; group++) {
        outer.rows = to - from;
        outer.a = x + (ptrdiff_t)ky * w->dilation_y * pitch +
                  (ptrdiff_t)kx * w->dilation_x * g->channels + group * g->group_channels +
                  (from - first);
        outer.b = dz + group * g->group_filters;
        outer.c = dw + (ptrdiff_t)from * g->filters + group * g->group_filters;
        k->outer(&outer);
      }
    }
  }
}

static void cn_weights_depthwise_(const cn_geometry_ *g, const float *x, ptrdiff_t pitch,
                                  const float *dz, float *dw) {
  const cn_kernels_ *k = cn_current_();
  const cn_window *w = &g->window;
  int oy, ox, ky, kx;
  for (oy = 0; oy < g->out_h; oy++)
    for (ox = 0; ox < g->out_w; ox++, dz += g->filters)
      for (ky = 0; ky < w->height; ky++)
        for (kx = 0; kx < w->width; kx++)
          k->multiply_add(x + (ptrdiff_t)(oy * w->stride_y + ky * w->dilation_y) * pitch +
                              (ptrdiff_t)(ox * w->stride_x + kx * w->dilation_x) * g->channels,
                          dz, dw + (ptrdiff_t)(ky * w->width + kx) * g->channels, g->channels);
}

/* Asks for an image that is read next, so that it comes while something else is computed. */
static void cn_prefetch_(const float *image, size_t floats) {
#if defined(CN_CLANG_) || defined(CN_GCC_)
  size_t i;
  for (i = 0; i < floats; i += CN_ALIGN_FLOATS_) __builtin_prefetch(image + i);
#else
  (void)image, (void)floats;
#endif
}

/* Images that a gradient of the weights is taken from, and where it goes. */
typedef struct cn_weights_of_ {
  const cn_conv2d *conv;
  const cn_geometry_ *g;
  const float *x, *dy; /* of all images */
  const uint8_t *argmax;
  int first, last;   /* images */
  int block, blocks; /* of the weight matrix's rows or vectors of channels: which, of how many */
  int accumulate;    /* onto what stands in dw */
  float *dw;
  char *workspace;
} cn_weights_of_;

#define CN_SMALL_IMAGE_FLOATS_ 16384 /* fetched ahead as a whole */

/* Behind a pooling: windows where a gradient is not zero are added up, scaled by it, for a vector
   of channels at a time, so that the image's part of them stays in the cache. dw is [channels /
   lanes][filters][taps][lanes]; the unit's share of the first is a block. */
static void cn_weights_sparse_(const cn_weights_of_ *of) {
  const cn_kernels_ *k = cn_current_();
  const cn_geometry_ *g = of->g;
  const cn_window *w = &g->window;
  const int vectors = cn_ceil_div_(g->channels, k->lanes),
            begin = cn_cut_(vectors, of->block, of->blocks),
            end = cn_cut_(vectors, of->block + 1, of->blocks);
  const size_t filter_floats = (size_t)w->height * (size_t)w->width * (size_t)k->lanes;
  const size_t pixels = (size_t)g->padded_h * (size_t)g->padded_w,
               windows = (size_t)g->y_h * (size_t)g->y_w,
               image_floats = (size_t)g->in_h * (size_t)g->in_w * (size_t)g->channels;
  char *workspace = of->workspace;
  float *padded = cn_take_(&workspace, pixels * (size_t)g->channels);
  float *vector_pixels = cn_take_(&workspace, pixels * (size_t)k->lanes);
  int *counts = (int *)(void *)cn_take_(&workspace, (size_t)g->filters);
  float *dw = of->dw + (size_t)(begin * g->filters) * filter_floats;
  cn_spike_ *spikes = (cn_spike_ *)(void *)workspace;
  int image, vector, filter;
  cn_pooled_ pooled;
  pooled.height = g->y_h, pooled.width = g->y_w, pooled.filters = g->filters;
  pooled.places = (ptrdiff_t)windows + CN_LIST_SLACK_;
  pooled.step_x = (uint32_t)(w->stride_x * k->lanes);
  pooled.step_y = (uint32_t)(w->stride_y * k->lanes) * (uint32_t)g->padded_w;
  if (!of->accumulate)
    memset(dw, 0, (size_t)((end - begin) * g->filters) * filter_floats * sizeof *dw);
  for (image = of->first; image < of->last; image++) {
    const size_t at = (size_t)image * windows * (size_t)g->filters;
    float *sum = dw;
    cn_pad_rows_(g, of->x + (size_t)image * image_floats, 0, g->padded_h, padded);
    if (image + 1 < of->last && image_floats <= CN_SMALL_IMAGE_FLOATS_)
      cn_prefetch_(of->x + (size_t)(image + 1) * image_floats, image_floats);
    pooled.dy = of->dy + at, pooled.argmax = of->argmax + at;
    k->find_spikes(&pooled, spikes, counts);
    for (vector = begin; vector < end; vector++) {
      const int channel = vector * k->lanes;
      const float *from = padded;
      if (g->channels != k->lanes) {
        k->channel_block(padded + channel, pixels, g->channels,
                         cn_min_(k->lanes, g->channels - channel), vector_pixels);
        from = vector_pixels;
      }
      for (filter = 0; filter < g->filters; filter++, sum += filter_floats)
        k->sparse(spikes + filter * pooled.places, counts[filter], from,
                  (ptrdiff_t)w->dilation_y * g->padded_w * k->lanes, w->height, w->width, sum);
    }
  }
}

/* The same for few channels: dw is [depth][filters]. */
static void cn_weights_few_(const cn_conv2d *conv, const cn_geometry_ *g, const float *x,
                            ptrdiff_t pitch, const float *dy, const uint8_t *argmax, float *dw) {
  const cn_kernels_ *k = cn_current_();
  const cn_window *w = &g->window;
  const int run = w->width * g->channels;
  ptrdiff_t taps[9];
  cn_few_ few;
  int first, i;
  few.x = x, few.dy = dy, few.argmax = argmax;
  few.height = g->y_h, few.width = g->y_w, few.filters = g->filters;
  few.y_step = w->stride_y * pitch, few.x_step = (ptrdiff_t)w->stride_x * g->channels;
  few.grey = cn_is_grey_(conv, g);
  for (first = 0; first < g->depth; first += 9) {
    const int count = cn_min_(9, g->depth - first);
    for (i = 0; i < count; i++)
      taps[i] = (ptrdiff_t)((first + i) / run * w->dilation_y) * pitch + (first + i) % run;
    k->few(&few, taps, count, dw + (ptrdiff_t)first * g->filters);
  }
}

/* A block of a flat product's gradient: rows are channels. */
typedef struct cn_flat_block_ {
  int row, row_end, filter, filter_end;
} cn_flat_block_;

/* The same in whole steps; the last takes what is left over. */
static int cn_cut_in_steps_(int n, int step, int i, int cuts) {
  return i == cuts ? n : cn_cut_(n / step, i, cuts) * step;
}

static cn_flat_block_ cn_flat_block_of_(const cn_geometry_ *g, const cn_weight_split_ *split,
                                        int number) {
  const cn_kernels_ *k = cn_current_();
  const int row_blocks = split->blocks / split->filter_blocks, i = number / split->filter_blocks,
            j = number % split->filter_blocks;
  const int row_step = cn_has_listed_rows_(g) ? k->sparse_columns : 1;
  const int panel = k->lanes * k->tile_vectors;
  cn_flat_block_ block;
  block.row = cn_cut_in_steps_(g->depth, row_step, i, row_blocks);
  block.row_end = cn_cut_in_steps_(g->depth, row_step, i + 1, row_blocks);
  block.filter = cn_cut_in_steps_(g->filters, panel, j, split->filter_blocks);
  block.filter_end = cn_cut_in_steps_(g->filters, panel, j + 1, split->filter_blocks);
  return block;
}

/* The first rows of a block of dw (+)= x^T dy, of at most two runs of CN_LIST_DEPTH_ pixels;
   returns the row behind them. */
static int cn_flat_sparse_weights_(const cn_geometry_ *g, const cn_flat_block_ *block,
                                   const float *x, const float *dy, int pixels, int accumulate,
                                   float *dw, char *workspace) {
  const cn_kernels_ *k = cn_current_();
  const int panel = k->lanes * k->tile_vectors, step = k->sparse_columns;
  const int runs = cn_ceil_div_(pixels, CN_LIST_DEPTH_);
  cn_lists_ *lists;
  int row = block->row, filter, run, i;
  if (block->row_end - row < CN_LISTED_STEPS_ * step || g->channels > INT32_MAX / CN_LIST_DEPTH_ ||
      !cn_mostly_zero_(dy + block->filter, g->filters, pixels, block->filter_end - block->filter))
    return row;
  lists = cn_new_lists_(workspace, g->channels);
  for (filter = block->filter; filter < block->filter_end; filter += CN_LIST_FILTERS_) {
    const int filters = cn_min_(CN_LIST_FILTERS_, block->filter_end - filter);
    for (run = 0; run < runs; run++) {
      const int first = cn_cut_(pixels, run, runs), n = cn_cut_(pixels, run + 1, runs) - first;
      k->transpose(dy + (ptrdiff_t)first * g->filters + filter, g->filters, n, filters,
                   lists->turned, CN_LIST_DEPTH_);
      for (i = 0; i < filters; i++)
        lists->counts[run * CN_LIST_FILTERS_ + i] =
            k->list(lists->turned + i * CN_LIST_DEPTH_, lists->offsets, n,
                    lists->spikes[run * CN_LIST_FILTERS_ + i]);
    }
    for (row = block->row; row + step <= block->row_end; row += step) {
      float *to = dw + (ptrdiff_t)row * g->filters + filter;
      for (run = 0; run < runs; run++)
        for (i = 0; i < filters; i++)
          k->sparse_row(lists->spikes[run * CN_LIST_FILTERS_ + i],
                        lists->counts[run * CN_LIST_FILTERS_ + i],
                        x + (ptrdiff_t)cn_cut_(pixels, run, runs) * g->channels + row, panel,
                        run > 0, lists->sums + i * step);
      if (!accumulate) {
        k->transpose(lists->sums, step, filters, step, to, g->filters);
        continue;
      }
      k->transpose(lists->sums, step, filters, step, lists->turned, CN_LIST_FILTERS_);
      for (i = 0; i < step; i++, to += g->filters)
        k->add(to, lists->turned + i * CN_LIST_FILTERS_, to, (size_t)filters);
    }
  }
  return row;
}

static void cn_weights_flat_(const cn_geometry_ *g, const cn_weight_split_ *split, const float *x,
                             const float *dy, int part, int number, float *dw, char *workspace) {
  const int64_t pixels = (int64_t)g->count * g->in_h * g->in_w;
  const int64_t last = pixels * (part + 1) / split->parts;
  const cn_flat_block_ block = cn_flat_block_of_(g, split, number);
  int64_t first = pixels * part / split->parts;
  cn_outer_ outer;
  memset(&outer, 0, sizeof outer);
  outer.columns = block.filter_end - block.filter, outer.segment_count = 1;
  outer.a_step = g->channels, outer.b_step = g->filters, outer.c_stride = g->filters;
  for (; first < last; first += outer.depth) {
    const float *pass_x = x + first * g->channels, *pass_dy = dy + first * g->filters;
    int row;
    outer.depth = (int)(last - first < CN_FLAT_PIXELS_ ? last - first : CN_FLAT_PIXELS_);
    row = cn_flat_sparse_weights_(g, &block, pass_x, pass_dy, outer.depth, outer.accumulate, dw,
                                  workspace);
    outer.rows = block.row_end - row, outer.a = pass_x + row;
    outer.b = pass_dy + block.filter, outer.c = dw + (ptrdiff_t)row * g->filters + block.filter;
    if (outer.rows > 0) cn_current_()->outer(&outer);
    outer.accumulate = 1;
  }
}

/* ---- convolution: gradients of the weights, Winograd ----
   Y = A^T [U . V] A with U = G g G^T and V = B^T d B for each tile, so the gradient of U is the sum
   over all tiles of (A dY A^T) . V, and that of g is G^T dU G. */

/* A dY A^T of a share's tiles, a block of the filters. */
static void cn_winograd_gradients_(const cn_winograd_ *w, const cn_winograd_share_ *share,
                                   const float *dy) {
  const cn_tiles_ *tiles = &w->tiles[0];
  const size_t image_floats = (size_t)w->out_h * (size_t)w->out_w * (size_t)w->filters;
  float *d = share->m;
  int image, row, column;
  cn_winograd_source_ source;
  source.height = w->out_h, source.width = w->out_w, source.top = source.left = 0;
  source.pitch = w->filters, source.zeros = share->zeros;
  for (image = share->first; image < share->last; image++) {
    source.pixels = dy + (size_t)image * image_floats + share->filter;
    for (row = share->row_begin; row < cn_winograd_row_end_(share, tiles); row++) {
      const float *rows[CN_PATCH_SIDE_];
      cn_winograd_rows_(&source, row * tiles->height, tiles->height, rows);
      for (column = 0; column < tiles->columns; column++, d += w->m_pitch) {
        cn_patch_ patch;
        cn_winograd_patch_(&source, rows, column * tiles->width, tiles->height, tiles->width,
                           &patch);
        w->k->winograd_gradient(tiles->height, &patch, share->filters, d, tiles->m_plane);
      }
    }
  }
}

/* G^T dU G of a share's block, from sums [channel][position][m_pitch], to dw
   [9][channels][filters]. */
static void cn_winograd_finish_(const cn_winograd_ *w, const cn_winograd_share_ *share,
                                const float *sums, float *dw) {
  int channel, tap;
  for (channel = 0; channel < share->channels; channel++) {
    float *at[9];
    for (tap = 0; tap < 9; tap++)
      at[tap] = dw + ((ptrdiff_t)tap * w->channels + share->channel + channel) * w->filters +
                share->filter;
    w->k->winograd_weights_gradient(w->tiles[0].height, sums + channel * cn_winograd_sum_pitch_(w),
                                    w->m_pitch, share->filters, at);
  }
}

/* The gradient of the weights from a part of the shares, for a block of the channels and
   filters. */
static void cn_weights_winograd_(const cn_winograd_ *w, const cn_weight_split_ *split,
                                 const float *dy, int part, int block, float *dw, char *workspace) {
  const cn_tiles_ *tiles = &w->tiles[0];
  const int shares = cn_winograd_shares_(w);
  const int last = cn_cut_(shares, part + 1, split->parts);
  const ptrdiff_t sum_pitch = cn_winograd_sum_pitch_(w);
  float *sums = cn_take_(&workspace, (size_t)(w->block_channels * sum_pitch) + CN_SLACK_);
  const float *zeros = cn_winograd_take_zeros_(w, &workspace);
  cn_winograd_share_ share;
  int number = cn_cut_(shares, part, split->parts), position;
  cn_outer_ outer;
  memset(&outer, 0, sizeof outer);
  outer.segment_count = 1, outer.a_step = w->v_pitch, outer.b_step = w->m_pitch;
  outer.c_stride = sum_pitch;
  do {
    share = cn_winograd_share_of_(w, number, block / w->filter_blocks, block % w->filter_blocks,
                                  zeros, workspace);
    cn_winograd_patches_(w, &share);
    cn_winograd_gradients_(w, &share, dy);
    outer.rows = share.channels, outer.columns = share.filters;
    outer.depth = cn_winograd_tile_count_(&share, tiles);
    for (position = 0; position < tiles->positions; position++) {
      outer.a = share.v + position * tiles->v_plane, outer.b = share.m + position * tiles->m_plane;
      outer.c = sums + (ptrdiff_t)position * w->m_pitch;
      w->k->outer(&outer);
    }
    outer.accumulate = 1;
  } while (++number < last);
  cn_winograd_finish_(w, &share, sums, dw);
}

/* Bias gradient of items [first, last), which are images or, of a flat product, rows: the pooled
   gradients' sum is the unpooled ones'. */
static void cn_bias_items_(const cn_geometry_ *g, const float *dy, int64_t first, int64_t last,
                           int accumulate, float *sum) {
  const size_t rows_per_item = g->flat ? 1 : (size_t)g->y_h * (size_t)g->y_w;
  if (!accumulate) memset(sum, 0, (size_t)g->filters * sizeof *sum);
  cn_current_()->column_sums(dy + (size_t)first * rows_per_item * (size_t)g->filters,
                             (size_t)(last - first) * rows_per_item, g->filters, sum);
}

/* The images one after the other. */
static void cn_weights_by_image_(const cn_weights_of_ *of) {
  const cn_geometry_ *g = of->g;
  const cn_algorithm_ algorithm = cn_algorithm_of_(of->conv, g, CN_BACKWARD_WEIGHTS);
  const int begin = cn_cut_(g->depth, of->block, of->blocks), /* rows of the weight matrix */
      end = cn_cut_(g->depth, of->block + 1, of->blocks);
  const int pad = cn_needs_padding_(g);
  const ptrdiff_t pitch = (ptrdiff_t)(pad ? g->padded_w : g->in_w) * g->channels;
  const size_t y_floats = (size_t)g->y_h * (size_t)g->y_w * (size_t)g->filters;
  const size_t x_floats = (size_t)g->in_h * (size_t)g->in_w * (size_t)g->channels;
  char *workspace = of->workspace;
  float *padded = cn_take_(
      &workspace, (size_t)g->padded_h * (size_t)g->padded_w * (size_t)g->channels + CN_SLACK_);
  float *dz = (float *)(void *)workspace;
  int image;
  if (algorithm != CN_DIRECT_ && !of->accumulate)
    memset(of->dw, 0, (size_t)g->depth * (size_t)g->filters * sizeof *of->dw);
  for (image = of->first; image < of->last; image++) {
    const float *source = of->x + (size_t)image * x_floats,
                *gradient = of->dy + (size_t)image * y_floats;
    const uint8_t *places = of->argmax ? of->argmax + (size_t)image * y_floats : NULL;
    if (pad) {
      cn_pad_rows_(g, source, 0, g->padded_h, padded);
      source = padded;
    }
    if (algorithm == CN_FEW_) {
      cn_weights_few_(of->conv, g, source, pitch, gradient, places, of->dw);
      continue;
    }
    if (of->conv->pool) {
      cn_unpool_image_(cn_current_(), gradient, places, 0, g->y_h, g->y_w, g->filters, dz,
                       (ptrdiff_t)g->out_w * g->filters);
      gradient = dz;
    }
    if (algorithm == CN_DEPTHWISE_)
      cn_weights_depthwise_(g, source, pitch, gradient, of->dw);
    else
      cn_weights_direct_(g, source, pitch, gradient, begin, end,
                         of->accumulate || image > of->first, of->dw);
  }
}

static void cn_weights_of_images_(const cn_weights_of_ *of) {
  if (cn_algorithm_of_(of->conv, of->g, CN_BACKWARD_WEIGHTS) == CN_SPARSE_)
    cn_weights_sparse_(of);
  else
    cn_weights_by_image_(of);
}

static void cn_backward_weights_unit_(const cn_conv2d *conv, const cn_geometry_ *g, const float *x,
                                      const float *dy, const uint8_t *argmax,
                                      const cn_parts_ *parts, int unit, char *workspace) {
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, g, CN_BACKWARD_WEIGHTS);
  const cn_weight_split_ split = cn_weight_split_of_(conv, g);
  const int part = unit / split.blocks, block = unit % split.blocks;
  const cn_parts_ sums = cn_part_(parts, part);
  if (block == 0 && sums.bias) {
    const int64_t items = g->flat ? (int64_t)g->count * g->in_h * g->in_w : g->count;
    cn_bias_items_(g, dy, items * part / split.parts, items * (part + 1) / split.parts, 0,
                   sums.bias);
  }
  if (algorithm == CN_FLAT_) {
    cn_weights_flat_(g, &split, x, dy, part, block, sums.weights, workspace);
  } else if (algorithm == CN_WINOGRAD2_ || algorithm == CN_WINOGRAD4_) {
    cn_winograd_ w = cn_winograd_setup_(conv, g, CN_BACKWARD_WEIGHTS, NULL);
    w.source = x;
    cn_weights_winograd_(&w, &split, dy, part, block, sums.weights, workspace);
  } else {
    cn_weights_of_ of;
    of.conv = conv, of.g = g, of.x = x, of.dy = dy, of.argmax = argmax;
    of.first = cn_cut_(g->count, part, split.parts);
    of.last = cn_cut_(g->count, part + 1, split.parts);
    of.block = block, of.blocks = split.blocks;
    of.accumulate = 0, of.dw = sums.weights, of.workspace = workspace;
    cn_weights_of_images_(&of);
  }
}

/* Whether the weights' gradient goes image by image, so that a part can be added up in slices. */
static int cn_weights_in_slices_(const cn_conv2d *conv) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, &g, CN_BACKWARD_WEIGHTS);
  return algorithm != CN_FLAT_ && algorithm != CN_WINOGRAD2_ && algorithm != CN_WINOGRAD4_;
}

/* The gradient of the weights from all of the images, stored as part `part` or added to what is
   there. */
static void cn_weights_of_slice_(const cn_conv2d *conv, const float *x, const float *dy,
                                 const uint8_t *argmax, int part, int accumulate,
                                 const cn_parts_ *parts, char *workspace) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_parts_ sums = cn_part_(parts, part);
  cn_weights_of_ of;
  of.conv = conv, of.g = &g, of.x = x, of.dy = dy, of.argmax = argmax;
  of.first = 0, of.last = g.count, of.block = 0, of.blocks = 1;
  of.accumulate = accumulate, of.dw = sums.weights, of.workspace = workspace;
  if (sums.bias) cn_bias_items_(&g, dy, 0, g.count, accumulate, sums.bias);
  cn_weights_of_images_(&of);
}

/* ---- convolution: the public calls ---- */

CN_API int cn_conv2d_units(const cn_conv2d *conv, cn_pass pass) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, &g, pass);
  int blocks;
  if (pass == CN_BACKWARD_WEIGHTS) {
    const cn_weight_split_ split = cn_weight_split_of_(conv, &g);
    return split.parts * split.blocks;
  }
  if (algorithm == CN_FLAT_) return cn_flat_units_(&g);
  if (algorithm == CN_WINOGRAD2_ || algorithm == CN_WINOGRAD4_) {
    const cn_winograd_ w = cn_winograd_setup_(conv, &g, pass, NULL);
    return cn_unit_count_((int64_t)cn_winograd_shares_(&w) * w.filter_blocks);
  }
  blocks = pass == CN_FORWARD ? cn_ceil_div_(g.out_h, cn_forward_block_(conv, &g))
                              : cn_ceil_div_(g.in_h, cn_backward_block_(&g));
  return cn_unit_count_((int64_t)g.count * blocks);
}

/* Floats of workspace where the algorithm is none that has a function of its own for this. */
static size_t cn_plain_workspace_(const cn_conv2d *conv, const cn_geometry_ *g,
                                  cn_algorithm_ algorithm, cn_pass pass) {
  const cn_window *w = &g->window;
  const size_t filters = (size_t)g->filters, channels = (size_t)g->channels,
               out_h = (size_t)g->out_h, out_w = (size_t)g->out_w;
  const size_t padded = cn_product3_((size_t)g->padded_h, (size_t)g->padded_w, channels);
  if (algorithm == CN_GREY_)
    return cn_plus_(padded, cn_product3_(4, (size_t)g->padded_h, (size_t)cn_grey_plane_(g)));
  if (pass == CN_FORWARD)
    return cn_plus_(conv->pool ? cn_product3_(2, out_w, filters) : 0,
                    cn_needs_padding_(g) ? padded : 0);
  if (pass == CN_BACKWARD_INPUT) {
    const size_t margins = (size_t)(cn_backward_left_(g) + cn_backward_right_(g));
    const size_t rows = (size_t)(g->in_h + w->pad_top + w->pad_bottom),
                 columns = (size_t)(g->in_w + w->pad_left + w->pad_right);
    return cn_plus_(cn_product3_(out_h, out_w + margins, filters),
                    w->padding == CN_PADDING_ZERO ? 0 : cn_product3_(rows, columns, channels));
  }
  if (algorithm == CN_SPARSE_) {
    const size_t places = cn_times_((size_t)g->y_h, (size_t)g->y_w) + CN_LIST_SLACK_;
    const size_t vector =
        cn_product3_((size_t)g->padded_h, (size_t)g->padded_w, (size_t)cn_current_()->lanes);
    return cn_plus_(cn_plus_(padded, vector),
                    cn_plus_(cn_product3_(2, places, filters), filters + 2 * CN_SLACK_));
  }
  return cn_plus_(padded,
                  conv->pool && algorithm != CN_FEW_ ? cn_product3_(out_h, out_w, filters) : 0);
}

CN_API size_t cn_conv2d_workspace(const cn_conv2d *conv, cn_pass pass) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, &g, pass);
  size_t floats;
  if (cn_conv2d_units(conv, pass) == INT_MAX) return SIZE_MAX;
  if (algorithm == CN_FLAT_) return CN_ALIGNMENT_ + (pass == CN_FORWARD ? 0 : sizeof(cn_lists_));
  if (algorithm == CN_WINOGRAD2_ || algorithm == CN_WINOGRAD4_)
    return cn_winograd_workspace_(conv, &g, pass);
  floats = cn_plus_(cn_plain_workspace_(conv, &g, algorithm, pass), 8 * CN_SLACK_);
  return cn_plus_(cn_times_(floats, sizeof(float)), cn_plus_(cn_taps_bytes_(&g), CN_ALIGNMENT_));
}

CN_API void cn_conv2d_forward(const cn_conv2d *conv, const float *x, const float *packed,
                              const float *bias, float *y, uint8_t *argmax, int begin, int end,
                              void *workspace) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, &g, CN_FORWARD);
  int unit;
  if (algorithm == CN_WINOGRAD2_ || algorithm == CN_WINOGRAD4_) {
    cn_winograd_ w = cn_winograd_setup_(conv, &g, CN_FORWARD, packed);
    w.source = x, w.bias = bias, w.y = y, w.argmax = argmax;
    for (unit = begin; unit < end; unit++) cn_winograd_unit_(&w, unit, (char *)workspace);
  } else {
    for (unit = begin; unit < end; unit++) {
      if (algorithm == CN_FLAT_)
        cn_flat_unit_(&g, CN_FORWARD, x, packed, bias, conv->relu, y, unit, (char *)workspace);
      else if (algorithm == CN_GREY_)
        cn_forward_grey_(conv, &g, x, packed, bias, y, argmax, unit, (char *)workspace);
      else
        cn_forward_direct_(conv, &g, x, packed, bias, y, argmax, unit, (char *)workspace);
    }
  }
}

CN_API void cn_conv2d_backward_input(const cn_conv2d *conv, const float *dy, const uint8_t *argmax,
                                     const float *packed, float *dx, int begin, int end,
                                     void *workspace) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_algorithm_ algorithm = cn_algorithm_of_(conv, &g, CN_BACKWARD_INPUT);
  int unit;
  CN_ASSERT(!conv->pool || argmax);
  if (algorithm == CN_WINOGRAD2_ || algorithm == CN_WINOGRAD4_) {
    cn_winograd_ w = cn_winograd_setup_(conv, &g, CN_BACKWARD_INPUT, packed);
    w.source = dy, w.spread = conv->pool ? argmax : NULL, w.y = dx;
    for (unit = begin; unit < end; unit++) cn_winograd_unit_(&w, unit, (char *)workspace);
  } else {
    for (unit = begin; unit < end; unit++) {
      if (algorithm == CN_FLAT_)
        cn_flat_unit_(&g, CN_BACKWARD_INPUT, dy, packed, NULL, 0, dx, unit, (char *)workspace);
      else
        cn_backward_input_direct_(conv, &g, dy, argmax, packed, dx, unit, (char *)workspace);
    }
  }
}

CN_API void cn_conv2d_backward_weights(const cn_conv2d *conv, const float *x, const float *dy,
                                       const uint8_t *argmax, float *partial, int begin, int end,
                                       void *workspace) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_weight_split_ split = cn_weight_split_of_(conv, &g);
  const cn_parts_ parts = cn_parts_in_(&g, &split, partial);
  int unit;
  CN_ASSERT(!conv->pool || argmax);
  for (unit = begin; unit < end; unit++)
    cn_backward_weights_unit_(conv, &g, x, dy, argmax, &parts, unit, (char *)workspace);
}

/* Adds the parts in order, for share `unit` of `units` of the weights, and brings what
   cn_weights_sparse_ made into the order of weights. */
static void cn_sum_parts_(const cn_conv2d *conv, float *partial, float *dweights, int unit,
                          int units) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_kernels_ *k = cn_current_();
  const cn_weight_split_ split = cn_weight_split_of_(conv, &g);
  const int begin = cn_cut_(split.rows, unit, units), end = cn_cut_(split.rows, unit + 1, units);
  const size_t at = (size_t)begin * split.row_floats, n = (size_t)(end - begin) * split.row_floats;
  int part, tap, row, i;
  for (part = 1; part < split.parts; part++)
    k->add(partial + at, partial + (size_t)part * split.part_floats + at, partial + at, n);
  if (cn_algorithm_of_(conv, &g, CN_BACKWARD_WEIGHTS) != CN_SPARSE_) {
    memcpy(dweights + at, partial + at, n * sizeof *dweights);
    return;
  }
  for (tap = 0; tap < g.window.height * g.window.width; tap++) {
    for (row = begin; row < end; row++) {
      const int channel = row / g.filters * k->lanes, filter = row % g.filters;
      const float *from = partial + (size_t)row * split.row_floats + (size_t)tap * (size_t)k->lanes;
      float *to =
          dweights + ((size_t)tap * (size_t)g.channels + (size_t)channel) * (size_t)g.filters;
      for (i = 0; i < cn_min_(k->lanes, g.channels - channel); i++)
        to[(size_t)i * (size_t)g.filters + (size_t)filter] = from[i];
    }
  }
}

static void cn_sum_bias_(const cn_conv2d *conv, float *partial, float *dbias) {
  const cn_geometry_ g = cn_geometry_of_(conv);
  const cn_weight_split_ split = cn_weight_split_of_(conv, &g);
  float *bias = cn_parts_in_(&g, &split, partial).bias;
  int part;
  for (part = 1; part < split.parts; part++)
    cn_current_()->add(bias, bias + (size_t)part * split.part_floats, bias, (size_t)g.filters);
  memcpy(dbias, bias, (size_t)g.filters * sizeof *dbias);
}

CN_API void cn_conv2d_sum(const cn_conv2d *conv, float *partial, float *dweights, float *dbias) {
  cn_sum_parts_(conv, partial, dweights, 0, 1);
  if (dbias) cn_sum_bias_(conv, partial, dbias);
}

/* ---- pooling ---- */

/* Whether along one side each of the window's positions has a tap inside the image: those that
   begin before it may step over it, the last one may begin behind it. */
static int cn_all_see_(int size, int window, int stride, int dilation, int pad, int positions) {
  int i;
  for (i = 0; i < positions && (int64_t)i * stride < pad; i++) {
    const int before = pad - i * stride, taps = cn_ceil_div_(before, dilation);
    if (taps >= window || taps * (int64_t)dilation - before >= size) return 0;
  }
  return (positions - 1) * (int64_t)stride - pad < size;
}

CN_API cn_status cn_pool2d_output(const cn_pool2d *pool, cn_shape *out, cn_error *error) {
  const cn_window w = cn_window_filled_(pool->window);
  if (cn_window_check_(&pool->window, error)) return CN_ERROR_ARGUMENT;
  if (cn_shape_check_(pool->in, error)) return CN_ERROR_ARGUMENT;
  if (pool->kind < CN_POOL_MAX || pool->kind > CN_POOL_ADAPTIVE_MEAN)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "unknown kind of pooling %d", (int)pool->kind);
  if (!(pool->mix >= 0.0f && pool->mix <= 1.0f))
    return cn_fail_value_(error, "mix", pool->mix, "is outside [0, 1]");
  out->count = pool->in.count, out->channels = pool->in.channels;
  if (pool->kind == CN_POOL_ADAPTIVE_MEAN) {
    out->height = w.height, out->width = w.width;
    return cn_shape_check_(*out, error);
  }
  out->height = cn_window_positions(pool->in.height, w.height, w.stride_y, w.dilation_y, w.pad_top,
                                    w.pad_bottom, w.ceil);
  out->width = cn_window_positions(pool->in.width, w.width, w.stride_x, w.dilation_x, w.pad_left,
                                   w.pad_right, w.ceil);
  if (out->height < 1 || out->width < 1)
    return cn_fail_(error, CN_ERROR_SHAPE, "window %dx%d does not fit the input %dx%d", w.height,
                    w.width, pool->in.height, pool->in.width);
  if (cn_shape_check_(*out, NULL))
    return cn_fail_(error, CN_ERROR_SHAPE, "the pooling's result %dx%dx%d is outside the limits",
                    out->height, out->width, out->channels);
  if (!cn_all_see_(pool->in.height, w.height, w.stride_y, w.dilation_y, w.pad_top, out->height) ||
      !cn_all_see_(pool->in.width, w.width, w.stride_x, w.dilation_x, w.pad_left, out->width))
    return cn_fail_(error, CN_ERROR_SHAPE, "a window %dx%d would see nothing of the input %dx%d",
                    w.height, w.width, pool->in.height, pool->in.width);
  return CN_OK;
}

/* First of `size` values that belong to window i of n, and one behind the last. */
static int cn_adaptive_begin_(int i, int size, int n) {
  return (int)((int64_t)i * size / n);
}
static int cn_adaptive_end_(int i, int size, int n) {
  return (int)(((int64_t)(i + 1) * size + n - 1) / n);
}

static cn_pool_at_ cn_pool_locate_adaptive_(const cn_pool2d *pool, const cn_window *w, int oy,
                                            int ox, ptrdiff_t *offset) {
  const int width = pool->in.width, c = pool->in.channels;
  const int top = cn_adaptive_begin_(oy, pool->in.height, w->height);
  const int left = cn_adaptive_begin_(ox, width, w->width);
  cn_pool_at_ at;
  memset(&at, 0, sizeof at);
  at.kind = CN_POOL_MEAN, at.channels = c;
  at.row_step = (ptrdiff_t)width * c, at.column_step = c;
  at.rows = cn_adaptive_end_(oy, pool->in.height, w->height) - top;
  at.columns = cn_adaptive_end_(ox, width, w->width) - left;
  at.mean_scale = 1.0f / (float)(at.rows * at.columns);
  *offset = ((ptrdiff_t)top * width + left) * c;
  return at;
}

/* The part of window position (oy, ox) inside the image, and the mean's divisor. */
static cn_pool_at_ cn_pool_locate_(const cn_pool2d *pool, const cn_window *w, int oy, int ox,
                                   ptrdiff_t *offset) {
  const int h = pool->in.height, width = pool->in.width, c = pool->in.channels;
  int top = oy * w->stride_y - w->pad_top, left = ox * w->stride_x - w->pad_left;
  int bottom = top + w->dilation_y * (w->height - 1), right = left + w->dilation_x * (w->width - 1);
  cn_pool_at_ at;
  int counted_rows, counted_columns;
  if (pool->kind == CN_POOL_ADAPTIVE_MEAN) return cn_pool_locate_adaptive_(pool, w, oy, ox, offset);
  at.kind = pool->kind, at.mix = pool->mix, at.channels = c;
  at.row_step = (ptrdiff_t)w->dilation_y * width * c, at.column_step = (ptrdiff_t)w->dilation_x * c;
  /* with rounding up, a last window may also reach beyond the padding: never counted */
  counted_rows = cn_min_(w->height, (h + w->pad_bottom - 1 - top) / w->dilation_y + 1);
  counted_columns = cn_min_(w->width, (width + w->pad_right - 1 - left) / w->dilation_x + 1);
  if (top < 0) top += cn_ceil_div_(-top, w->dilation_y) * w->dilation_y;
  if (left < 0) left += cn_ceil_div_(-left, w->dilation_x) * w->dilation_x;
  bottom = cn_min_(bottom, h - 1), right = cn_min_(right, width - 1);
  at.rows = (bottom - top) / w->dilation_y + 1;
  at.columns = (right - left) / w->dilation_x + 1;
  at.mean_scale = pool->count_padding ? 1.0f / ((float)counted_rows * (float)counted_columns)
                                      : 1.0f / ((float)at.rows * (float)at.columns);
  *offset = ((ptrdiff_t)top * width + left) * c;
  return at;
}

CN_API void cn_pool2d_forward(const cn_pool2d *pool, const float *x, float *y, int begin, int end) {
  const cn_kernels_ *k = cn_current_();
  const cn_window w = cn_window_filled_(pool->window);
  cn_shape out;
  int image, oy, ox;
  if (cn_pool2d_output(pool, &out, NULL)) return;
  for (image = begin; image < end; image++) {
    const float *from = x + (size_t)image * cn_values_(pool->in);
    float *to = y + (size_t)image * cn_values_(out);
    for (oy = 0; oy < out.height; oy++) {
      for (ox = 0; ox < out.width; ox++, to += out.channels) {
        ptrdiff_t offset;
        cn_pool_at_ at = cn_pool_locate_(pool, &w, oy, ox, &offset);
        at.x = from + offset;
        k->pool_window(&at, to);
      }
    }
  }
}

CN_API void cn_pool2d_backward(const cn_pool2d *pool, const float *x, const float *dy, float *dx,
                               int begin, int end) {
  const cn_kernels_ *k = cn_current_();
  const cn_window w = cn_window_filled_(pool->window);
  cn_shape out;
  int image, oy, ox;
  if (cn_pool2d_output(pool, &out, NULL)) return;
  for (image = begin; image < end; image++) {
    const float *from = dy + (size_t)image * cn_values_(out);
    float *to = dx + (size_t)image * cn_values_(pool->in);
    memset(to, 0, cn_values_(pool->in) * sizeof *to);
    for (oy = 0; oy < out.height; oy++) {
      for (ox = 0; ox < out.width; ox++, from += out.channels) {
        ptrdiff_t offset;
        cn_pool_at_ at = cn_pool_locate_(pool, &w, oy, ox, &offset);
        at.x = x + (size_t)image * cn_values_(pool->in) + offset;
        k->pool_window_backward(&at, from, to + offset);
      }
    }
  }
}

/* ---- element-wise ---- */

CN_API void cn_relu_forward(const float *x, float *y, size_t n) {
  cn_current_()->relu_forward(x, y, n);
}
CN_API void cn_relu_backward(const float *y, const float *dy, float scale, float *dx, size_t n) {
  cn_current_()->relu_backward(y, dy, scale, dx, n);
}
CN_API void cn_sigmoid_forward(const float *x, float *y, size_t n) {
  cn_current_()->sigmoid_forward(x, y, n);
}
CN_API void cn_sigmoid_backward(const float *y, const float *dy, float *dx, size_t n) {
  cn_current_()->sigmoid_backward(y, dy, dx, n);
}
CN_API void cn_tanh_forward(const float *x, float *y, size_t n) {
  cn_current_()->tanh_forward(x, y, n);
}
CN_API void cn_tanh_backward(const float *y, const float *dy, float *dx, size_t n) {
  cn_current_()->tanh_backward(y, dy, dx, n);
}
CN_API void cn_scale(const float *x, float factor, float *y, size_t n) {
  size_t i;
  for (i = 0; i < n; i++) y[i] = factor * x[i];
}

CN_API void cn_add(const float *a, const float *b, float *y, size_t n) {
  cn_current_()->add(a, b, y, n);
}

/* One 64-bit number decides for four neighbours, 16 bits each. */
CN_API void cn_dropout(const float *x, float *y, size_t begin, size_t end, float rate,
                       uint64_t seed) {
  const uint32_t threshold = (uint32_t)(rate * 65536.0f + 0.5f);
  const float scale = 1.0f / (1.0f - rate);
  size_t i, j;
  CN_ASSERT(begin % 4 == 0);
  for (i = begin; i < end; i += 4) {
    uint64_t bits = cn_mix_(seed, i / 4);
    for (j = i; j < i + 4 && j < end; j++, bits >>= 16) {
      const float scaled = x[j] * scale;
      uint32_t kept; /* not a condition, which no processor could foresee */
      memcpy(&kept, &scaled, sizeof kept);
      kept &= 0u - (uint32_t)((bits & 0xFFFFu) >= threshold);
      memcpy(y + j, &kept, sizeof kept);
    }
  }
}

CN_API void cn_copy_channels(const float *x, size_t x_pitch, float *y, size_t y_pitch, size_t rows,
                             size_t channels) {
  size_t row;
  for (row = 0; row < rows; row++)
    memcpy(y + row * y_pitch, x + row * x_pitch, channels * sizeof *y);
}

/* ---- batch normalisation ---- */

CN_API int cn_batchnorm_parts(size_t rows) {
  return cn_unit_count_((int64_t)(rows / CN_STATISTICS_ROWS + (rows % CN_STATISTICS_ROWS != 0)));
}

static size_t cn_part_rows_(size_t rows, int part) {
  const size_t first = (size_t)part * CN_STATISTICS_ROWS;
  return rows - first < CN_STATISTICS_ROWS ? rows - first : CN_STATISTICS_ROWS;
}

/* Sums about the part's first row keep digits where the mean is far from 0; then they are moved to
   0. */
CN_API void cn_batchnorm_statistics(const cn_batchnorm *norm, const float *x, double *sums,
                                    int begin, int end) {
  const int channels = norm->channels;
  int part, c;
  for (part = begin; part < end; part++) {
    const float *from = x + (size_t)part * CN_STATISTICS_ROWS * (size_t)channels;
    double *sum = sums + (size_t)part * 2 * (size_t)channels;
    const double n = (double)cn_part_rows_(norm->rows, part);
    cn_current_()->part_sums(from, from, (size_t)n, channels, NULL, NULL, sum);
    for (c = 0; c < channels; c++) {
      const double centre = (double)from[c];
      sum[channels + c] += centre * (2.0 * sum[c] + n * centre);
      sum[c] += n * centre;
    }
  }
}

/* The parts of one channel, in order: of first and of second sums. */
static void cn_sum_statistics_(const cn_batchnorm *norm, const double *sums, int channel,
                               double *first, double *second) {
  const int parts = cn_batchnorm_parts(norm->rows);
  int part;
  *first = *second = 0.0;
  for (part = 0; part < parts; part++, sums += 2 * (size_t)norm->channels)
    *first += sums[channel], *second += sums[norm->channels + channel];
}

CN_API void cn_batchnorm_finish(const cn_batchnorm *norm, const double *sums) {
  const double n = (double)norm->rows;
  int c;
  for (c = 0; c < norm->channels; c++) {
    double sum, squares, average, variance;
    cn_sum_statistics_(norm, sums, c, &sum, &squares);
    average = sum / n, variance = squares / n - average * average;
    if (variance < 0.0) variance = 0.0;
    norm->mean[c] = (float)average;
    norm->inverse_deviation[c] = (float)(1.0 / sqrt(variance + (double)norm->eps));
    if (norm->running_mean) {
      const double unbiased = norm->rows > 1 ? variance * n / (n - 1.0) : variance;
      const float keep = 1.0f - norm->momentum;
      norm->running_mean[c] = keep * norm->running_mean[c] + norm->momentum * (float)average;
      norm->running_variance[c] =
          keep * norm->running_variance[c] + norm->momentum * (float)unbiased;
    }
  }
}

CN_API void cn_batchnorm_forward(const cn_batchnorm *norm, const float *x, float *y,
                                 size_t begin_row, size_t end_row) {
  const size_t at = begin_row * (size_t)norm->channels;
  cn_current_()->normalise(norm, x + at, y + at, end_row - begin_row);
}

CN_API void cn_batchnorm_backward_sums(const cn_batchnorm *norm, const float *x, const float *dy,
                                       double *sums, int begin, int end) {
  int part;
  for (part = begin; part < end; part++) {
    const size_t at = (size_t)part * CN_STATISTICS_ROWS * (size_t)norm->channels;
    cn_current_()->part_sums(dy + at, x + at, cn_part_rows_(norm->rows, part), norm->channels,
                             norm->mean, norm->inverse_deviation,
                             sums + (size_t)part * 2 * (size_t)norm->channels);
  }
}

CN_API void cn_batchnorm_backward_finish(const cn_batchnorm *norm, const double *sums,
                                         float *dscale, float *dshift) {
  int c;
  for (c = 0; c < norm->channels; c++) {
    double sum, product;
    cn_sum_statistics_(norm, sums, c, &sum, &product);
    dshift[c] = (float)sum, dscale[c] = (float)product;
  }
}

/* dx = scale * inverse_deviation * (dy - dshift / n - normalised x * dscale / n) */
CN_API void cn_batchnorm_backward(const cn_batchnorm *norm, const float *x, const float *dy,
                                  const float *dscale, const float *dshift, float *dx,
                                  size_t begin_row, size_t end_row) {
  const size_t at = begin_row * (size_t)norm->channels;
  cn_current_()->normalise_backward(norm, x + at, dy + at, dscale, dshift, dx + at,
                                    end_row - begin_row);
}

/* ---- losses ---- */

static float cn_row_max_(const float *x, int n) {
  float most = -INFINITY;
  int i;
  for (i = 0; i < n; i++) most = x[i] > most ? x[i] : most;
  return most;
}

CN_API void cn_softmax(const float *x, float *p, size_t rows, int classes) {
  const cn_kernels_ *k = cn_current_();
  size_t row;
  int i;
  for (row = 0; row < rows; row++, x += classes, p += classes) {
    const float sum = k->exp_shifted(x, cn_row_max_(x, classes), p, (size_t)classes);
    for (i = 0; i < classes; i++) p[i] /= sum;
  }
}

CN_API double cn_softmax_loss(const float *logits, const int *labels, const float *class_weights,
                              int classes, float scale, float *probabilities, float *gradient,
                              size_t begin, size_t end) {
  const cn_kernels_ *k = cn_current_();
  double total = 0.0;
  size_t row;
  int i;
  for (row = begin; row < end; row++) {
    const size_t at = row * (size_t)classes;
    const int label = labels[row];
    const float weight = class_weights ? class_weights[label] : 1.0f;
    const float most = cn_row_max_(logits + at, classes), truth = logits[at + (size_t)label];
    const float sum = k->exp_shifted(logits + at, most, gradient + at, (size_t)classes);
    total += (double)weight * (log((double)sum) - ((double)truth - (double)most));
    for (i = 0; i < classes; i++) {
      const float p = gradient[at + (size_t)i] / sum;
      if (probabilities) probabilities[at + (size_t)i] = p;
      gradient[at + (size_t)i] = scale * weight * (i == label ? p - 1.0f : p);
    }
  }
  return total;
}

CN_API double cn_sigmoid_loss(const float *logits, const float *targets, int classes, float scale,
                              float *probabilities, float *gradient, size_t begin, size_t end) {
  double total = 0.0;
  size_t i;
  for (i = begin * (size_t)classes; i < end * (size_t)classes; i++) {
    const double x = (double)logits[i], t = (double)targets[i], e = exp(-fabs(x));
    const double s = x >= 0.0 ? 1.0 / (1.0 + e) : e / (1.0 + e);
    total += 0.5 * (x + fabs(x)) - t * x + log1p(e); /* max(x, 0), which would hide NaN */
    if (probabilities) probabilities[i] = (float)s;
    gradient[i] = scale * (float)(s - t);
  }
  return total;
}

CN_API double cn_squared_loss(const float *y, const float *targets, int classes, float scale,
                              float *gradient, size_t begin, size_t end) {
  double total = 0.0;
  size_t i;
  for (i = begin * (size_t)classes; i < end * (size_t)classes; i++) {
    const double difference = (double)y[i] - (double)targets[i];
    total += 0.5 * difference * difference;
    gradient[i] = scale * (float)difference;
  }
  return total;
}

CN_API void cn_update_weights(const cn_update *update, float *w, const float *g, float *first,
                              float *second, size_t n) {
  cn_current_()->update(update, w, g, first, second, n);
}

/* ==== layer 2: networks ======================================================================= */

/* Up to CN_BIAS_ROLE_ they are trained; a batch norm's four stand in this order. */
typedef enum cn_role_ {
  CN_WEIGHT_,
  CN_NORM_SCALE_,
  CN_BIAS_ROLE_,
  CN_RUNNING_MEAN_,
  CN_RUNNING_VARIANCE_
} cn_role_;

typedef struct
    cn_tensor_ { /* a parameter tensor; its values stand at `offset` of the network's array */
  char name[CN_MAX_NAME + 16];
  cn_role_ role;
  int node, rank, dims[4], frozen;
  float rate; /* factor of the learning rate */
  int plain;  /* 1: same order in memory and file; 0: a convolution's or dense layer's weights */
  size_t offset, count;
} cn_tensor_;

typedef struct cn_text_ { /* a growing text; failed: memory ran out */
  char *data;
  size_t length, capacity;
  int failed;
  const cn_allocator *allocator;
} cn_text_;

struct cn_network {
  cn_allocator allocator;
  cn_node *nodes;
  int node_count, node_capacity;
  cn_tensor_ *tensors;
  int tensor_count, tensor_capacity;
  float *values; /* all tensors, each aligned */
  size_t value_count;
  int version; /* atomic; changes whenever a value may have changed */
  int users;   /* atomic; predictors and trainers */
  cn_text_ text;
  char **notes; /* key, value, key, value, ... sorted by key */
  int note_count;
};

/* ---- text ---- */

static void cn_text_add_(cn_text_ *text, const char *format, ...) {
  va_list arguments;
  int more;
  va_start(arguments, format);
  more = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  if (more < 0) text->failed = 1;
  if (text->failed) return;
  if (text->length + (size_t)more + 1 > text->capacity) {
    const size_t capacity = 2 * (text->length + (size_t)more + 1);
    char *data = (char *)cn_malloc_(text->allocator, capacity);
    if (!data) {
      text->failed = 1;
      return;
    }
    if (text->length) memcpy(data, text->data, text->length);
    cn_free_(text->allocator, text->data);
    text->data = data, text->capacity = capacity;
  }
  va_start(arguments, format);
  vsnprintf(text->data + text->length, text->capacity - text->length, format, arguments);
  va_end(arguments);
  text->length += (size_t)more;
}

static void cn_text_add_float_(cn_text_ *text, const char *before, float value) {
  char number[CN_FLOAT_TEXT_];
  cn_text_add_(text, "%s%s", before, cn_write_float_(value, CN_FLOAT_DIGITS_, number));
}

static char *cn_copy_text_(const cn_allocator *allocator, const char *text, size_t length) {
  char *copy = (char *)cn_malloc_(allocator, length + 1);
  if (!copy) return NULL;
  memcpy(copy, text, length);
  copy[length] = 0;
  return copy;
}

/* Bytes of the UTF-8 character at text[0 .. room), 0 if it is none. */
static size_t cn_utf8_length_(const char *text, size_t room) {
  const unsigned char *s = (const unsigned char *)text;
  const size_t n = s[0] < 0x80                   ? 1
                   : s[0] >= 0xC2 && s[0] < 0xE0 ? 2
                   : s[0] >= 0xE0 && s[0] < 0xF0 ? 3
                   : s[0] >= 0xF0 && s[0] < 0xF5 ? 4
                                                 : 0;
  size_t i;
  if (n == 0 || n > room) return 0;
  for (i = 1; i < n; i++)
    if ((s[i] & 0xC0) != 0x80) return 0;
  if ((s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
      (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F))
    return 0;
  return n;
}

static int cn_is_utf8_(const char *text) {
  size_t n;
  while (*text && (n = cn_utf8_length_(text, 4)) > 0) text += n; /* the final 0 continues none */
  return *text == 0;
}

/* ---- what somebody may have meant ---- */

/* A word that is no name, and the name nearest to it so far. */
typedef struct cn_nearest_ {
  const char *word;
  int length, distance;
  const char *name; /* NULL: none is near */
} cn_nearest_;

#define CN_LONGEST_GUESS_ 40

static int cn_same_letter_(char a, char b) { /* but for capitals */
  return (a >= 'A' && a <= 'Z' ? a + 32 : a) == (b >= 'A' && b <= 'Z' ? b + 32 : b);
}

/* Changed, missing and additional letters (Levenshtein 1966). */
static int cn_distance_(const char *a, int a_length, const char *b, int b_length) {
  int row[CN_LONGEST_GUESS_ + 1], i, j;
  for (j = 0; j <= b_length; j++) row[j] = j;
  for (i = 1; i <= a_length; i++) {
    int before = row[0]; /* of the row above, a column to the left */
    row[0] = i;
    for (j = 1; j <= b_length; j++) {
      const int changed = before + !cn_same_letter_(a[i - 1], b[j - 1]);
      before = row[j];
      row[j] = cn_min_(changed, cn_min_(row[j], row[j - 1]) + 1);
    }
  }
  return row[b_length];
}

static cn_nearest_ cn_nearest_to_(const char *word, int length) {
  cn_nearest_ nearest;
  nearest.word = word, nearest.length = length, nearest.name = NULL;
  nearest.distance = 1 + cn_max_(1, (length + 1) / 3); /* what is this far away is something else */
  return nearest;
}

/* A name that begins as the word does is as near as one with a letter wrong. */
static void cn_try_name_(cn_nearest_ *nearest, const char *name) {
  const int length = (int)strlen(name);
  int distance;
  if (nearest->length < 1 || nearest->length > CN_LONGEST_GUESS_ || length > CN_LONGEST_GUESS_)
    return;
  distance = cn_distance_(nearest->word, nearest->length, name, length);
  if (nearest->length >= 3 && length > nearest->length &&
      cn_distance_(nearest->word, nearest->length, name, nearest->length) == 0)
    distance = cn_min_(distance, 1);
  if (distance < nearest->distance) nearest->distance = distance, nearest->name = name;
}

/* What each kind of node is called in text, and the options it takes. */
enum {
  CN_TAKES_WINDOW_ = 1,
  CN_TAKES_GROUPS_ = 2,
  CN_TAKES_WEIGHTS_ = 4,
  CN_TAKES_MIX_ = 8,
  CN_TAKES_COUNT_ = 16,
  CN_TAKES_NORM_ = 32,
  CN_TAKES_FILTERS_ = 64,
  CN_TAKES_RATE_ = 128,
  CN_TAKES_SHAPE_ = 256,
  CN_TAKES_SIZE_ = 512,
  CN_TAKES_FACTOR_ = 1024,
  CN_TAKES_LOSS_ = 2048
};
typedef struct cn_op_info_ {
  const char *name;
  int takes, most_inputs;
} cn_op_info_;
static const cn_op_info_ cn_ops_[] = {
    {"input", CN_TAKES_SHAPE_, 0},
    {"conv", CN_TAKES_FILTERS_ | CN_TAKES_WINDOW_ | CN_TAKES_GROUPS_ | CN_TAKES_WEIGHTS_, 1},
    {"dense", CN_TAKES_FILTERS_ | CN_TAKES_WEIGHTS_, 1},
    {"maxpool", CN_TAKES_WINDOW_, 1},
    {"minpool", CN_TAKES_WINDOW_, 1},
    {"meanpool", CN_TAKES_WINDOW_ | CN_TAKES_COUNT_, 1},
    {"mixpool", CN_TAKES_WINDOW_ | CN_TAKES_COUNT_ | CN_TAKES_MIX_, 1},
    {"globalmean", 0, 1},
    {"adaptivemean", CN_TAKES_SIZE_, 1},
    {"relu", 0, 1},
    {"sigmoid", 0, 1},
    {"tanh", 0, 1},
    {"scale", CN_TAKES_FACTOR_, 1},
    {"batchnorm", CN_TAKES_NORM_, 1},
    {"dropout", CN_TAKES_RATE_, 1},
    {"add", 0, CN_MAX_INPUTS},
    {"concat", 0, CN_MAX_INPUTS},
    {"softmax", CN_TAKES_LOSS_, 1}};
#define CN_OP_COUNT_ ((int)(sizeof cn_ops_ / sizeof cn_ops_[0]))

/* Options by name, and what a kind of node must take to have them; 0: all have. */
static const struct {
  const char *name;
  int takes;
} cn_options_[] = {{"stride", CN_TAKES_WINDOW_},
                   {"dilation", CN_TAKES_WINDOW_},
                   {"pad", CN_TAKES_WINDOW_},
                   {"padding", CN_TAKES_WINDOW_},
                   {"ceil", CN_TAKES_WINDOW_},
                   {"groups", CN_TAKES_GROUPS_},
                   {"bias", CN_TAKES_WEIGHTS_},
                   {"init", CN_TAKES_WEIGHTS_},
                   {"mix", CN_TAKES_MIX_},
                   {"count", CN_TAKES_COUNT_},
                   {"eps", CN_TAKES_NORM_},
                   {"momentum", CN_TAKES_NORM_},
                   {"loss", CN_TAKES_LOSS_},
                   {"from", 0},
                   {"output", 0}};

static const char *const cn_padding_names_[] = {"zero", "replicate", "wrap"};
static const char *const cn_init_names_[] = {"glorot", "he", "gaussian", "constant"};

static int cn_is_pool_(cn_op op) {
  return op >= CN_OP_MAXPOOL && op <= CN_OP_MIXPOOL;
}

CN_API cn_node cn_node_defaults(cn_op op) {
  cn_node node;
  memset(&node, 0, sizeof node);
  node.op = op, node.groups = 1, node.bias = 1, node.mix = 0.5f, node.eps = 1e-5f,
  node.momentum = 0.1f;
  node.rate = 0.5f, node.factor = 1.0f, node.loss_weight = 1.0f, node.init = CN_INIT_GLOROT;
  return node;
}

CN_API cn_network *cn_network_create_with(const cn_allocator *allocator, cn_error *error) {
  cn_network *net;
  if (allocator && !allocator->allocate != !allocator->release) {
    cn_fail_(error, CN_ERROR_ARGUMENT, "an allocator needs both functions, or none");
    return NULL;
  }
  net = (cn_network *)cn_malloc_(allocator, sizeof *net);
  if (!net) {
    cn_fail_(error, CN_ERROR_MEMORY, "no memory for a network");
    return NULL;
  }
  memset(net, 0, sizeof *net);
  if (allocator) net->allocator = *allocator;
  net->text.allocator = &net->allocator;
  return net;
}

CN_API cn_network *cn_network_create(cn_error *error) {
  return cn_network_create_with(NULL, error);
}

CN_API void cn_network_free(cn_network *net) {
  cn_allocator allocator;
  int i;
  if (!net) return;
  CN_ASSERT(cn_atomic_load_(&net->users) == 0 && "free its predictors and trainers first");
  allocator = net->allocator;
  for (i = 0; i < 2 * net->note_count; i++) cn_free_(&allocator, net->notes[i]);
  cn_free_(&allocator, net->notes);
  cn_free_(&allocator, net->nodes);
  cn_free_(&allocator, net->tensors);
  cn_free_(&allocator, net->text.data);
  cn_release_(&allocator, net->values);
  cn_free_(&allocator, net);
}

CN_API int cn_network_node_count(const cn_network *net) {
  return net->node_count;
}

CN_API const cn_node *cn_network_node(const cn_network *net, int index) {
  return index >= 0 && index < net->node_count ? &net->nodes[index] : NULL;
}

CN_API int cn_network_find(const cn_network *net, const char *name) {
  int i;
  for (i = 0; i < net->node_count; i++)
    if (strcmp(net->nodes[i].name, name) == 0) return i;
  return -1;
}

/* Doubles an array when it is full. */
static int cn_grow_(const cn_allocator *allocator, void **items, int count, int *capacity,
                    size_t item_bytes) {
  void *larger;
  if (count < *capacity) return 1;
  if (*capacity > INT_MAX / 4) return 0;
  larger = cn_malloc_(allocator, (size_t)(2 * *capacity + 16) * item_bytes);
  if (!larger) return 0;
  if (count) memcpy(larger, *items, (size_t)count * item_bytes);
  cn_free_(allocator, *items);
  *items = larger, *capacity = 2 * *capacity + 16;
  return 1;
}

/* ---- shape inference ---- */

static cn_conv2d cn_node_conv_(const cn_node *node, cn_shape in) {
  cn_conv2d conv;
  if (node->op == CN_OP_DENSE) return cn_dense(in.count, (int)cn_values_(in), node->filters, 0);
  memset(&conv, 0, sizeof conv);
  conv.in = in, conv.filters = node->filters, conv.groups = node->groups,
  conv.window = node->window;
  return conv;
}

/* A pooling window's stride is its size unless it says otherwise. */
static cn_pool2d cn_node_pool_(const cn_node *node, cn_shape in) {
  cn_pool2d pool;
  memset(&pool, 0, sizeof pool);
  pool.in = in, pool.window = node->window, pool.mix = node->mix,
  pool.count_padding = node->count_padding;
  pool.kind = node->op == CN_OP_MAXPOOL        ? CN_POOL_MAX
              : node->op == CN_OP_MINPOOL      ? CN_POOL_MIN
              : node->op == CN_OP_MIXPOOL      ? CN_POOL_MIX
              : node->op == CN_OP_ADAPTIVEMEAN ? CN_POOL_ADAPTIVE_MEAN
                                               : CN_POOL_MEAN;
  if (node->op == CN_OP_GLOBALMEAN) pool.window.height = in.height, pool.window.width = in.width;
  if (pool.window.stride_y == 0) pool.window.stride_y = pool.window.height;
  if (pool.window.stride_x == 0) pool.window.stride_x = pool.window.width;
  return pool;
}

static cn_status cn_check_init_(const cn_node *node, cn_error *error) {
  const int takes_value = node->init == CN_INIT_GAUSSIAN || node->init == CN_INIT_CONSTANT;
  if (node->init < CN_INIT_GLOROT || node->init > CN_INIT_CONSTANT)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "unknown init %d", (int)node->init);
  if (takes_value && !cn_is_finite_((double)node->init_value))
    return cn_fail_value_(error, "init value", node->init_value, "is not a finite number");
  return CN_OK;
}

static cn_status cn_infer_shape_(const cn_network *net, cn_node *node, cn_error *error) {
  const cn_shape none = {1, 0, 0, 0};
  const cn_shape in = node->input_count ? net->nodes[node->inputs[0]].shape : none;
  int i;
  node->shape = node->op == CN_OP_INPUT ? node->shape : in;
  switch (node->op) {
  case CN_OP_INPUT:
    node->shape.count = 1;
    return cn_shape_check_(node->shape, error);
  case CN_OP_CONV: {
    const cn_conv2d conv = cn_node_conv_(node, in);
    const cn_status status = cn_check_init_(node, error);
    return status ? status : cn_conv2d_output(&conv, &node->shape, error);
  }
  case CN_OP_DENSE: {
    const cn_conv2d conv = cn_node_conv_(node, in);
    cn_status status = cn_check_init_(node, error);
    if (!status) status = cn_conv2d_output(&conv, &node->shape, error);
    node->shape.width = 1;
    return status;
  }
  case CN_OP_MAXPOOL:
  case CN_OP_MINPOOL:
  case CN_OP_MEANPOOL:
  case CN_OP_MIXPOOL:
  case CN_OP_GLOBALMEAN:
  case CN_OP_ADAPTIVEMEAN: {
    const cn_pool2d pool = cn_node_pool_(node, in);
    return cn_pool2d_output(&pool, &node->shape, error);
  }
  case CN_OP_BATCHNORM:
    if (!(node->eps >= FLT_MIN && node->eps < 1.0f)) /* below it, eps may count as 0 */
      return cn_fail_value_(error, "eps", node->eps, "is outside [1.18e-38, 1)");
    if (!(node->momentum >= 0.0f && node->momentum <= 1.0f))
      return cn_fail_value_(error, "momentum", node->momentum, "is outside [0, 1]");
    return CN_OK;
  case CN_OP_DROPOUT:
    if (!(node->rate >= 0.0f && node->rate < 1.0f))
      return cn_fail_value_(error, "dropout rate", node->rate, "is outside [0, 1)");
    return CN_OK;
  case CN_OP_SCALE:
    if (!cn_is_finite_((double)node->factor))
      return cn_fail_value_(error, "factor", node->factor, "is not a finite number");
    return CN_OK;
  case CN_OP_SOFTMAX:
    if (!(node->loss_weight > 0.0f && node->loss_weight <= 1000.0f))
      return cn_fail_value_(error, "loss weight", node->loss_weight, "is outside (0, 1000]");
    return CN_OK;
  case CN_OP_ADD:
    for (i = 1; i < node->input_count; i++) {
      const cn_shape s = net->nodes[node->inputs[i]].shape;
      if (s.height != in.height || s.width != in.width || s.channels != in.channels)
        return cn_fail_(error, CN_ERROR_SHAPE,
                        "cannot add %s, which is %dx%dx%d, to %s, which is %dx%dx%d",
                        net->nodes[node->inputs[i]].name, s.height, s.width, s.channels,
                        net->nodes[node->inputs[0]].name, in.height, in.width, in.channels);
    }
    return CN_OK;
  case CN_OP_CONCAT:
    for (i = 1; i < node->input_count; i++) {
      const cn_shape s = net->nodes[node->inputs[i]].shape;
      if (s.height != in.height || s.width != in.width)
        return cn_fail_(error, CN_ERROR_SHAPE,
                        "cannot join %s, which is %dx%d, with %s, which is %dx%d",
                        net->nodes[node->inputs[i]].name, s.height, s.width,
                        net->nodes[node->inputs[0]].name, in.height, in.width);
      node->shape.channels += s.channels;
    }
    return cn_shape_check_(node->shape, error);
  default:
    return CN_OK;
  }
}

/* ---- adding a node ---- */

static int cn_name_is_valid_(const char *name) {
  size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
  return length > 0 && length < CN_MAX_NAME && name[length] == 0;
}

/* conv1, conv2, ...: the kind and how many of it there are. */
static void cn_default_name_(const cn_node *nodes, int count, cn_op op, char *name) {
  int i, number = 1;
  for (i = 0; i < count; i++) number += nodes[i].op == op;
  if (op == CN_OP_INPUT && number == 1)
    snprintf(name, CN_MAX_NAME, "input");
  else
    snprintf(name, CN_MAX_NAME, "%s%d", cn_ops_[op].name, number);
}

static cn_status cn_check_output_(const cn_node *node, cn_error *error) {
  char weight[CN_FLOAT_TEXT_];
  if (!(node->output_weight >= 0.0f && node->output_weight <= 1000.0f))
    return cn_fail_(error, CN_ERROR_ARGUMENT, "%s: output %s is outside [0, 1000]", node->name,
                    cn_write_float_(node->output_weight, CN_MESSAGE_DIGITS_, weight));
  if (node->op == CN_OP_INPUT && node->output_weight > 0.0f)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "%s: an input is no output", node->name);
  return CN_OK;
}

static cn_status cn_check_node_(cn_network *net, cn_node *node, cn_error *error) {
  const int op = (int)node->op;
  int i;
  if (cn_atomic_load_(&net->users))
    return cn_fail_(error, CN_ERROR_ARGUMENT,
                    "the network is in use by a predictor or trainer and cannot grow");
  if (op < 0 || op >= CN_OP_COUNT_)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "unknown kind of node %d", op);
  if (node->name[0] == 0) cn_default_name_(net->nodes, net->node_count, node->op, node->name);
  if (memchr(node->name, 0, CN_MAX_NAME) == NULL || !cn_name_is_valid_(node->name))
    return cn_fail_(error, CN_ERROR_ARGUMENT,
                    "%.60s is no name for a node: letters, digits, _ . - and fewer than %d of them",
                    node->name, CN_MAX_NAME);
  if (cn_network_find(net, node->name) >= 0)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "there already is a node %s", node->name);
  if (node->op != CN_OP_INPUT && net->node_count == 0)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "%s: the first node must be an input", node->name);
  if (cn_check_output_(node, error)) return CN_ERROR_ARGUMENT;
  if (node->input_count == 0 && node->op != CN_OP_INPUT)
    node->input_count = 1, node->inputs[0] = net->node_count - 1;
  if (node->input_count < 0 || node->input_count > cn_ops_[node->op].most_inputs)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "%s takes at most %d input%s", node->name,
                    cn_ops_[node->op].most_inputs, cn_ops_[node->op].most_inputs == 1 ? "" : "s");
  if (node->input_count < 2 && cn_ops_[op].most_inputs > 1)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "%s needs at least two inputs, as in %s from=a,b",
                    node->name, cn_ops_[op].name);
  for (i = 0; i < node->input_count; i++) {
    if (node->inputs[i] < 0 || node->inputs[i] >= net->node_count)
      return cn_fail_(error, CN_ERROR_ARGUMENT, "%s reads node %d, which does not exist yet",
                      node->name, node->inputs[i]);
    if (net->nodes[node->inputs[i]].op == CN_OP_SOFTMAX)
      return cn_fail_(error, CN_ERROR_ARGUMENT, "%s cannot follow softmax, which ends a branch",
                      node->name);
    if (net->nodes[node->inputs[i]].op == CN_OP_SIGMOID &&
        net->nodes[node->inputs[i]].output_weight > 0.0f)
      return cn_fail_(error, CN_ERROR_ARGUMENT,
                      "%s cannot follow the output %s: its sigmoid is part of the loss", node->name,
                      net->nodes[node->inputs[i]].name);
  }
  for (i = 0; node->op == CN_OP_SOFTMAX && i < net->node_count; i++)
    if (net->nodes[i].op == CN_OP_SOFTMAX && net->nodes[i].inputs[0] == node->inputs[0])
      return cn_fail_(error, CN_ERROR_ARGUMENT, "%s reads what %s reads", node->name,
                      net->nodes[i].name);
  return CN_OK;
}

static int cn_add_tensor_(cn_network *net, int node, const char *suffix, cn_role_ role, int plain,
                          int rank, const int *dims) {
  cn_tensor_ *tensor;
  int i;
  if (!cn_grow_(&net->allocator, (void **)&net->tensors, net->tensor_count, &net->tensor_capacity,
                sizeof *net->tensors))
    return 0;
  tensor = &net->tensors[net->tensor_count];
  memset(tensor, 0, sizeof *tensor);
  snprintf(tensor->name, sizeof tensor->name, "%s.%s", net->nodes[node].name, suffix);
  tensor->role = role, tensor->node = node, tensor->plain = plain, tensor->rank = rank,
  tensor->rate = 1.0f, tensor->count = 1;
  for (i = 0; i < rank; i++) tensor->dims[i] = dims[i], tensor->count *= (size_t)dims[i];
  tensor->offset = net->value_count;
  net->value_count = cn_plus_(net->value_count, cn_align_floats_(tensor->count));
  net->tensor_count++;
  return 1;
}

static int cn_add_tensors_(cn_network *net, int index) {
  const cn_node *node = &net->nodes[index];
  const cn_shape none = {1, 1, 1, 1};
  const cn_shape in = node->input_count ? net->nodes[node->inputs[0]].shape : none;
  int dims[4];
  if (node->op == CN_OP_CONV) {
    dims[0] = node->filters, dims[1] = in.channels / (node->groups ? node->groups : 1);
    dims[2] = node->window.height, dims[3] = node->window.width;
    if (!cn_add_tensor_(net, index, "weight", CN_WEIGHT_, 0, 4, dims)) return 0;
    return !node->bias || cn_add_tensor_(net, index, "bias", CN_BIAS_ROLE_, 1, 1, dims);
  }
  if (node->op == CN_OP_DENSE) {
    dims[0] = node->filters, dims[1] = (int)cn_values_(in);
    if (!cn_add_tensor_(net, index, "weight", CN_WEIGHT_, 0, 2, dims)) return 0;
    return !node->bias || cn_add_tensor_(net, index, "bias", CN_BIAS_ROLE_, 1, 1, dims);
  }
  if (node->op == CN_OP_BATCHNORM) {
    dims[0] = in.channels;
    return cn_add_tensor_(net, index, "weight", CN_NORM_SCALE_, 1, 1, dims) &&
           cn_add_tensor_(net, index, "bias", CN_BIAS_ROLE_, 1, 1, dims) &&
           cn_add_tensor_(net, index, "running_mean", CN_RUNNING_MEAN_, 1, 1, dims) &&
           cn_add_tensor_(net, index, "running_var", CN_RUNNING_VARIANCE_, 1, 1, dims);
  }
  return 1;
}

/* Moves the values to an array that has room for the new tensors. */
static cn_status cn_grow_values_(cn_network *net, size_t old_count, cn_error *error) {
  float *values;
  if (net->value_count == old_count) return CN_OK;
  values = (float *)cn_allocate_(&net->allocator, cn_times_(net->value_count, sizeof(float)));
  if (!values)
    return cn_fail_(error, CN_ERROR_MEMORY, "no memory for the network's %zu values",
                    net->value_count);
  if (old_count) memcpy(values, net->values, old_count * sizeof(float));
  cn_release_(&net->allocator, net->values);
  net->values = values;
  return CN_OK;
}

/* What grows with each node, to go back to when one of them cannot be added. */
typedef struct cn_sizes_ {
  int node_count, tensor_count;
  size_t value_count;
} cn_sizes_;

static cn_sizes_ cn_sizes_of_(const cn_network *net) {
  cn_sizes_ sizes;
  sizes.node_count = net->node_count, sizes.tensor_count = net->tensor_count;
  sizes.value_count = net->value_count;
  return sizes;
}

static void cn_restore_sizes_(cn_network *net, cn_sizes_ sizes) {
  net->node_count = sizes.node_count, net->tensor_count = sizes.tensor_count;
  net->value_count = sizes.value_count;
}

/* cn_network_add without room for the values: cn_grow_values_ must follow, once for many nodes. */
static int cn_append_node_(cn_network *net, const cn_node *source, cn_error *error) {
  const cn_sizes_ before = cn_sizes_of_(net);
  cn_node node = *source;
  cn_error inner;
  memset(&inner, 0, sizeof inner);
  if (cn_check_node_(net, &node, error)) return -1;
  if (cn_infer_shape_(net, &node, &inner)) {
    const cn_shape in = net->node_count ? net->nodes[0].shape : node.shape;
    cn_fail_(error, inner.status, "%.90s: %.180s%s", node.name, inner.message,
             in.height < in.channels && in.height <= 4 ? "; shapes are rows x columns x channels"
                                                       : "");
    return -1;
  }
  if (cn_grow_(&net->allocator, (void **)&net->nodes, net->node_count, &net->node_capacity,
               sizeof *net->nodes)) {
    net->nodes[net->node_count++] = node;
    if (cn_add_tensors_(net, net->node_count - 1)) {
      cn_atomic_add_(&net->version, 1);
      net->text.length = 0;
      return net->node_count - 1;
    }
    cn_restore_sizes_(net, before);
  }
  cn_fail_(error, CN_ERROR_MEMORY, "%s: no memory for the node", node.name);
  return -1;
}

/* Fills parameter tensors from number `first` on. */
static void cn_init_tensors_(cn_network *net, int first, uint64_t seed) {
  int i;
  for (i = first; i < net->tensor_count; i++) {
    const cn_tensor_ *t = &net->tensors[i];
    const cn_node *node = &net->nodes[t->node];
    float *values = net->values + t->offset;
    size_t j;
    if (t->role == CN_WEIGHT_) {
      const int taps = t->rank == 4 ? t->dims[2] * t->dims[3] : 1;
      cn_random random;
      random.seed = cn_mix_(seed, (uint64_t)i), random.position = 0;
      cn_init(node->init, node->init_value, t->dims[1] * taps,
              t->dims[0] / (t->rank == 4 ? cn_max_(1, node->groups) : 1) * taps, &random, values,
              t->count);
    } else {
      const int one = t->role == CN_NORM_SCALE_ || t->role == CN_RUNNING_VARIANCE_;
      for (j = 0; j < t->count; j++) values[j] = one ? 1.0f : 0.0f;
    }
  }
  cn_atomic_add_(&net->version, 1);
}

CN_API int cn_network_add(cn_network *net, const cn_node *node, cn_error *error) {
  const cn_sizes_ before = cn_sizes_of_(net);
  const int index = cn_append_node_(net, node, error);
  if (index < 0) return -1;
  if (cn_grow_values_(net, before.value_count, error)) {
    cn_restore_sizes_(net, before);
    return -1;
  }
  cn_init_tensors_(net, before.tensor_count, 1);
  return index;
}

/* ---- inputs and outputs ---- */

static int cn_is_output_(const cn_network *net, int node) {
  return node == net->node_count - 1 || net->nodes[node].output_weight > 0.0f;
}

CN_API int cn_network_input(const cn_network *net, int number) {
  int i;
  for (i = 0; i < net->node_count; i++)
    if (net->nodes[i].op == CN_OP_INPUT && number-- == 0) return i;
  return -1;
}

CN_API int cn_network_output(const cn_network *net, int number) {
  int i;
  for (i = 0; i < net->node_count; i++)
    if (cn_is_output_(net, i) && number-- == 0) return i;
  return -1;
}

/* ---- canonical text ---- */

static void cn_write_size_(cn_text_ *text, const char *key, int height, int width, int standard) {
  if (height == standard && width == standard) return;
  if (height == width)
    cn_text_add_(text, " %s=%d", key, height);
  else
    cn_text_add_(text, " %s=%dx%d", key, height, width);
}

static void cn_write_window_(cn_text_ *text, const cn_node *node) {
  const cn_window w = cn_window_filled_(node->window);
  cn_text_add_(text, " %dx%d", w.height, w.width);
  if (cn_is_pool_(node->op)) {
    const int stride_y = node->window.stride_y ? node->window.stride_y : w.height;
    const int stride_x = node->window.stride_x ? node->window.stride_x : w.width;
    if (stride_y != w.height || stride_x != w.width)
      cn_write_size_(text, "stride", stride_y, stride_x, 0);
  } else {
    cn_write_size_(text, "stride", w.stride_y, w.stride_x, 1);
  }
  cn_write_size_(text, "dilation", w.dilation_y, w.dilation_x, 1);
  if (w.pad_top == w.pad_bottom && w.pad_left == w.pad_right)
    cn_write_size_(text, "pad", w.pad_top, w.pad_left, 0);
  else
    cn_text_add_(text, " pad=%d,%d,%d,%d", w.pad_top, w.pad_left, w.pad_bottom, w.pad_right);
  if (w.padding != CN_PADDING_ZERO) cn_text_add_(text, " padding=%s", cn_padding_names_[w.padding]);
  if (w.ceil) cn_text_add_(text, " ceil=yes");
}

static void cn_write_node_(cn_text_ *text, const cn_network *net, int index) {
  const cn_node *node = &net->nodes[index];
  const int takes = cn_ops_[node->op].takes;
  int i;
  char name[CN_MAX_NAME];
  cn_default_name_(net->nodes, index, node->op, name);
  if (strcmp(name, node->name) != 0) cn_text_add_(text, "%s: ", node->name);
  cn_text_add_(text, "%s", cn_ops_[node->op].name);
  if (takes & CN_TAKES_SHAPE_)
    cn_text_add_(text, " %dx%dx%d", node->shape.height, node->shape.width, node->shape.channels);
  if (takes & CN_TAKES_FILTERS_) cn_text_add_(text, " %d", node->filters);
  if (takes & CN_TAKES_RATE_) cn_text_add_float_(text, " ", node->rate);
  if (takes & CN_TAKES_FACTOR_) cn_text_add_float_(text, " ", node->factor);
  if (takes & CN_TAKES_SIZE_) cn_text_add_(text, " %dx%d", node->window.height, node->window.width);
  if (takes & CN_TAKES_WINDOW_) cn_write_window_(text, node);
  if ((takes & CN_TAKES_GROUPS_) && node->groups > 1)
    cn_text_add_(text, " groups=%d", node->groups);
  if (takes & CN_TAKES_MIX_) cn_text_add_float_(text, " mix=", node->mix);
  if ((takes & CN_TAKES_COUNT_) && node->count_padding) cn_text_add_(text, " count=all");
  if ((takes & CN_TAKES_WEIGHTS_) && !node->bias) cn_text_add_(text, " bias=no");
  if ((takes & CN_TAKES_WEIGHTS_) && node->init != CN_INIT_GLOROT) {
    cn_text_add_(text, " init=%s", cn_init_names_[node->init]);
    if (node->init != CN_INIT_HE) cn_text_add_float_(text, ":", node->init_value);
  }
  if ((takes & CN_TAKES_NORM_) && node->eps != 1e-5f) cn_text_add_float_(text, " eps=", node->eps);
  if ((takes & CN_TAKES_NORM_) && node->momentum != 0.1f)
    cn_text_add_float_(text, " momentum=", node->momentum);
  if ((takes & CN_TAKES_LOSS_) && node->loss_weight != 1.0f)
    cn_text_add_float_(text, " loss=", node->loss_weight);
  if (node->output_weight > 0.0f) cn_text_add_float_(text, " output=", node->output_weight);
  if (node->input_count > 1 || (node->input_count == 1 && node->inputs[0] != index - 1))
    for (i = 0; i < node->input_count; i++)
      cn_text_add_(text, "%s%s", i ? "," : " from=", net->nodes[node->inputs[i]].name);
  cn_text_add_(text, "\n");
}

CN_API const char *cn_network_text(cn_network *net) {
  int i;
  net->text.length = 0, net->text.failed = 0;
  cn_text_add_(&net->text, "");
  for (i = 0; i < net->node_count; i++) cn_write_node_(&net->text, net, i);
  return net->text.failed ? NULL : net->text.data;
}

/* ---- parsing ---- */

typedef struct cn_word_ { /* a piece of the line between blanks */
  const char *start;
  int length, column;
} cn_word_;

/* Three texts for the end of a message. */
#define CN_DID_YOU_MEAN_(nearest)                                                                  \
  (nearest).name ? "; did you mean " : "", (nearest).name ? (nearest).name : "",                   \
      (nearest).name ? "?" : ""

typedef struct cn_parser_ {
  cn_network *net;
  int line;
  cn_error *error;
} cn_parser_;

#define CN_MAX_WORDS_ 32

static int cn_parse_error_(const cn_parser_ *p, int column, const char *format, ...) {
  if (p->error) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(p->error->message, sizeof p->error->message, format, arguments);
    va_end(arguments);
    p->error->status = CN_ERROR_SYNTAX, p->error->line = p->line, p->error->column = column;
  }
  return 0;
}

/* Puts the place in front of an error that came from deeper down. */
static int cn_place_error_(const cn_parser_ *p, int column) {
  if (p->error) p->error->line = p->line, p->error->column = column;
  return 0;
}

static int cn_word_is_(const cn_word_ *word, const char *text) {
  return (size_t)word->length == strlen(text) &&
         strncmp(word->start, text, (size_t)word->length) == 0;
}

/* A whole number of at most six digits at text[0 .. length), all of it. */
static int cn_parse_integer_(const char *text, int length, int *value) {
  int i;
  *value = 0;
  if (length < 1 || length > 6) return 0;
  for (i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++)
    *value = *value * 10 + (text[i] - '0');
  return i == length;
}

/* n numbers with `separator` between them. */
static int cn_parse_integers_(const char *text, int length, char separator, int n, int *values) {
  int i, start = 0, end;
  for (i = 0; i < n; i++, start = end + 1) {
    for (end = start; end < length && text[end] != separator; end++) {
    }
    if (!cn_parse_integer_(text + start, end - start, &values[i])) return 0;
    if ((i == n - 1) != (end >= length)) return 0;
  }
  return 1;
}

static int cn_parse_size_(const char *text, int length, int *height, int *width) { /* N or RxC */
  int values[2];
  if (cn_parse_integer_(text, length, height)) {
    *width = *height;
    return 1;
  }
  if (!cn_parse_integers_(text, length, 'x', 2, values)) return 0;
  *height = values[0], *width = values[1];
  return 1;
}

/* Plain decimal notation of what a float can hold, read without regard to the locale's decimal
   point. */
static int cn_parse_float_(const char *text, int length, float *value) {
  double number = 0.0, unit = 1.0, sign = 1.0;
  int i = 0, digits = 0, exponent = 0, exponent_sign = 1;
  if (i < length && text[i] == '-') sign = -1.0, i++;
  for (; i < length && text[i] >= '0' && text[i] <= '9'; i++, digits++)
    number = number * 10.0 + (text[i] - '0');
  if (i < length && text[i] == '.')
    for (i++; i < length && text[i] >= '0' && text[i] <= '9'; i++, digits++)
      number = number * 10.0 + (text[i] - '0'), unit *= 10.0;
  if (digits == 0 || digits > 40) return 0;
  if (i < length && (text[i] == 'e' || text[i] == 'E')) {
    i++;
    if (i < length && (text[i] == '-' || text[i] == '+'))
      exponent_sign = text[i] == '-' ? -1 : 1, i++;
    if (i == length || length - i > 2) return 0;
    for (; i < length && text[i] >= '0' && text[i] <= '9'; i++)
      exponent = exponent * 10 + (text[i] - '0');
  }
  number = sign * number / unit * pow(10.0, exponent_sign * exponent);
  if (i < length || fabs(number) >= 3.4028235677973366e38) return 0; /* would round to infinity */
  *value = (float)number;
  return 1;
}

static int cn_parse_yes_(const char *text, int length, int *value) {
  *value = length == 3 && strncmp(text, "yes", 3) == 0;
  return *value || (length == 2 && strncmp(text, "no", 2) == 0);
}

static int cn_parse_choice_(const char *text, int length, const char *const *names, int count,
                            int *choice) {
  for (*choice = 0; *choice < count; ++*choice)
    if (strlen(names[*choice]) == (size_t)length &&
        strncmp(text, names[*choice], (size_t)length) == 0)
      return 1;
  return 0;
}

static int cn_parse_init_(const char *text, int length, cn_node *node) {
  const char *colon = (const char *)memchr(text, ':', (size_t)length);
  const int name_length = colon ? (int)(colon - text) : length;
  int choice;
  if (!cn_parse_choice_(text, name_length, cn_init_names_, 4, &choice)) return 0;
  node->init = (cn_init_kind)choice;
  if (choice == CN_INIT_GLOROT || choice == CN_INIT_HE) return colon == NULL;
  return colon && cn_parse_float_(colon + 1, length - name_length - 1, &node->init_value);
}

/* from=a,b: names of earlier nodes. */
static int cn_parse_inputs_(const cn_parser_ *p, const char *text, int length, int column,
                            cn_node *node) {
  int start = 0, end;
  for (; start <= length; start = end + 1) {
    char name[CN_MAX_NAME];
    for (end = start; end < length && text[end] != ','; end++) {
    }
    if (end - start >= CN_MAX_NAME || end == start)
      return cn_parse_error_(p, column + start, "a node's name is expected here");
    if (node->input_count == CN_MAX_INPUTS)
      return cn_parse_error_(p, column + start, "more than %d inputs", CN_MAX_INPUTS);
    memcpy(name, text + start, (size_t)(end - start));
    name[end - start] = 0;
    node->inputs[node->input_count] = cn_network_find(p->net, name);
    if (node->inputs[node->input_count++] < 0) {
      cn_nearest_ nearest = cn_nearest_to_(name, end - start);
      int i;
      for (i = 0; i < p->net->node_count; i++) cn_try_name_(&nearest, p->net->nodes[i].name);
      return cn_parse_error_(p, column + start, "there is no node %s above this line%s%s%s", name,
                             CN_DID_YOU_MEAN_(nearest));
    }
  }
  return 1;
}

static int cn_parse_pad_(const char *text, int length, cn_window *w, int *same) {
  int values[4];
  *same = length == 4 && strncmp(text, "same", 4) == 0;
  if (*same) return 1;
  if (cn_parse_integers_(text, length, ',', 4, values)) {
    w->pad_top = values[0], w->pad_left = values[1], w->pad_bottom = values[2],
    w->pad_right = values[3];
    return 1;
  }
  if (!cn_parse_size_(text, length, &w->pad_top, &w->pad_left)) return 0;
  w->pad_bottom = w->pad_top, w->pad_right = w->pad_left;
  return 1;
}

/* Padding that makes the output ceil(size / stride), the odd one behind (as TensorFlow does). */
static void cn_same_padding_(int size, int window, int stride, int dilation, int *before,
                             int *after) {
  const int64_t last = (int64_t)(cn_ceil_div_(size, stride) - 1) * stride;
  const int64_t missing = last + (int64_t)dilation * (window - 1) + 1 - size;
  const int total = missing < 0 ? 0 : cn_unit_count_(missing);
  *before = total / 2, *after = total - total / 2;
}

/* An option that stands on the line already. */
static int cn_is_repeated_(const cn_word_ *options, int index) {
  const char *equals =
      (const char *)memchr(options[index].start, '=', (size_t)options[index].length);
  const size_t key = (size_t)(equals - options[index].start) + 1;
  int i;
  for (i = 0; i < index; i++)
    if ((size_t)options[i].length >= key &&
        strncmp(options[i].start, options[index].start, key) == 0)
      return 1;
  return 0;
}

/* key=value. Returns 0 after an error. */
static int cn_parse_option_(const cn_parser_ *p, const cn_word_ *word, cn_node *node, int *same) {
  const char *equals = (const char *)memchr(word->start, '=', (size_t)word->length),
             *value = equals + 1;
  const cn_word_ key = {word->start, (int)(equals - word->start), word->column};
  const int length = word->length - key.length - 1, column = word->column + key.length + 1;
  const int takes = cn_ops_[node->op].takes;
  int choice = 0, good = -1;
  if (cn_word_is_(&key, "from") && node->op != CN_OP_INPUT)
    return cn_parse_inputs_(p, value, length, column, node);
  if (cn_word_is_(&key, "output") && node->op != CN_OP_INPUT)
    good = cn_parse_float_(value, length, &node->output_weight) && node->output_weight > 0.0f;
  if (takes & CN_TAKES_WINDOW_) {
    if (cn_word_is_(&key, "stride")) {
      good = cn_parse_size_(value, length, &node->window.stride_y, &node->window.stride_x) &&
             node->window.stride_y > 0 && node->window.stride_x > 0;
    } else if (cn_word_is_(&key, "dilation")) {
      good = cn_parse_size_(value, length, &node->window.dilation_y, &node->window.dilation_x) &&
             node->window.dilation_y > 0 && node->window.dilation_x > 0;
    } else if (cn_word_is_(&key, "pad")) {
      good = cn_parse_pad_(value, length, &node->window, same);
    } else if (cn_word_is_(&key, "padding") && node->op == CN_OP_CONV) {
      good = cn_parse_choice_(value, length, cn_padding_names_, 3, &choice);
      node->window.padding = (cn_padding)choice;
    } else if (cn_word_is_(&key, "ceil") && node->op != CN_OP_CONV) {
      good = cn_parse_yes_(value, length, &node->window.ceil);
    }
  }
  if ((takes & CN_TAKES_GROUPS_) && cn_word_is_(&key, "groups"))
    good = cn_parse_integer_(value, length, &node->groups) && node->groups > 0;
  if ((takes & CN_TAKES_WEIGHTS_) && cn_word_is_(&key, "bias"))
    good = cn_parse_yes_(value, length, &node->bias);
  if ((takes & CN_TAKES_WEIGHTS_) && cn_word_is_(&key, "init"))
    good = cn_parse_init_(value, length, node);
  if ((takes & CN_TAKES_MIX_) && cn_word_is_(&key, "mix"))
    good = cn_parse_float_(value, length, &node->mix);
  if ((takes & CN_TAKES_NORM_) && cn_word_is_(&key, "eps"))
    good = cn_parse_float_(value, length, &node->eps);
  if ((takes & CN_TAKES_NORM_) && cn_word_is_(&key, "momentum"))
    good = cn_parse_float_(value, length, &node->momentum);
  if ((takes & CN_TAKES_LOSS_) && cn_word_is_(&key, "loss"))
    good = cn_parse_float_(value, length, &node->loss_weight);
  if ((takes & CN_TAKES_COUNT_) && cn_word_is_(&key, "count")) {
    static const char *const names[] = {"inside", "all"};
    good = cn_parse_choice_(value, length, names, 2, &node->count_padding);
  }
  if (length == 0) return cn_parse_error_(p, column, "%.*s has no value", key.length, key.start);
  if (good < 0) {
    cn_nearest_ nearest = cn_nearest_to_(key.start, key.length);
    size_t i;
    for (i = 0; i < sizeof cn_options_ / sizeof cn_options_[0]; i++)
      if ((takes & cn_options_[i].takes) == cn_options_[i].takes)
        cn_try_name_(&nearest, cn_options_[i].name);
    return cn_parse_error_(p, word->column, "%s has no option %.*s%s%s%s", cn_ops_[node->op].name,
                           key.length, key.start, CN_DID_YOU_MEAN_(nearest));
  }
  if (!good)
    return cn_parse_error_(p, column, "%.*s is not a value for %.*s", length, value, key.length,
                           key.start);
  return 1;
}

/* What stands before the options: input 28x28x1, conv 16 3x3, dense 128, maxpool 2x2, dropout 0.5.
   Returns how many words it took, or -1 after an error. */
static int cn_parse_arguments_(const cn_parser_ *p, const cn_word_ *op, const cn_word_ *words,
                               int count, cn_node *node) {
  const int takes = cn_ops_[node->op].takes;
  int end = op->column + op->length, used = 0,
      values[3]; /* end: where a missing argument should be */
#define CN_NEED_(test, what)                                                                       \
  if (used >= count || !(test)) {                                                                  \
    cn_parse_error_(p, used < count ? words[used].column : end, "%s needs %s",                     \
                    cn_ops_[node->op].name, what);                                                 \
    return -1;                                                                                     \
  }                                                                                                \
  end = words[used].column + words[used].length, used++
  if (takes & CN_TAKES_SHAPE_) {
    CN_NEED_(cn_parse_integers_(words[used].start, words[used].length, 'x', 3, values),
             "a shape like 28x28x1");
    node->shape.height = values[0], node->shape.width = values[1], node->shape.channels = values[2];
  }
  if (takes & CN_TAKES_FILTERS_) {
    CN_NEED_(cn_parse_integer_(words[used].start, words[used].length, &node->filters),
             node->op == CN_OP_CONV ? "a number of filters" : "a number of outputs");
  }
  if (takes & CN_TAKES_RATE_) {
    CN_NEED_(cn_parse_float_(words[used].start, words[used].length, &node->rate),
             "a rate like 0.5");
  }
  if (takes & CN_TAKES_FACTOR_) {
    CN_NEED_(cn_parse_float_(words[used].start, words[used].length, &node->factor),
             "a factor like 0.1");
  }
  if (takes & (CN_TAKES_WINDOW_ | CN_TAKES_SIZE_)) {
    CN_NEED_(cn_parse_size_(words[used].start, words[used].length, &node->window.height,
                            &node->window.width) &&
                 node->window.height > 0 && node->window.width > 0,
             takes & CN_TAKES_SIZE_ ? "a size like 7x7" : "a window like 3x3");
  }
#undef CN_NEED_
  return used;
}

static int cn_split_line_(const char *line, int length, cn_word_ *words) {
  int i = 0, count = 0;
  while (i < length) {
    if (line[i] == ' ' || line[i] == '\t' || line[i] == '\r') {
      i++;
      continue;
    }
    if (count == CN_MAX_WORDS_) return count + 1;
    words[count].start = line + i, words[count].column = i + 1;
    while (i < length && line[i] != ' ' && line[i] != '\t' && line[i] != '\r') i++;
    words[count].length = (int)(line + i - words[count].start);
    count++;
  }
  return count;
}

static int cn_parse_line_(const cn_parser_ *p, const char *line, int length) {
  const char *comment = (const char *)memchr(line, '#', (size_t)length);
  cn_word_ words[CN_MAX_WORDS_];
  const int count = cn_split_line_(line, comment ? (int)(comment - line) : length, words);
  cn_node node;
  char name[CN_MAX_NAME] = "";
  int at = 0, op, used, same = 0;
  if (count == 0) return 1;
  if (count > CN_MAX_WORDS_)
    return cn_parse_error_(p, 1, "more than %d words on one line", CN_MAX_WORDS_);
  if (words[0].start[words[0].length - 1] == ':') {
    if (words[0].length - 1 >= CN_MAX_NAME)
      return cn_parse_error_(p, words[0].column, "the name is longer than %d bytes",
                             CN_MAX_NAME - 1);
    memcpy(name, words[0].start, (size_t)words[0].length - 1);
    name[words[0].length - 1] = 0;
    if (!cn_name_is_valid_(name))
      return cn_parse_error_(p, words[0].column, "a name has letters, digits, _ . -");
    at = 1;
  }
  if (at == count)
    return cn_parse_error_(p, words[0].column + words[0].length,
                           "a kind of node is expected after the name");
  for (op = 0; op < CN_OP_COUNT_ && !cn_word_is_(&words[at], cn_ops_[op].name); op++) {
  }
  if (op == CN_OP_COUNT_) {
    cn_nearest_ nearest = cn_nearest_to_(words[at].start, words[at].length);
    for (op = 0; op < CN_OP_COUNT_; op++) cn_try_name_(&nearest, cn_ops_[op].name);
    return cn_parse_error_(p, words[at].column, "there is no kind of node called %.*s%s%s%s",
                           words[at].length, words[at].start, CN_DID_YOU_MEAN_(nearest));
  }
  node = cn_node_defaults((cn_op)op);
  memcpy(node.name, name, sizeof name);
  used = cn_parse_arguments_(p, &words[at], words + at + 1, count - at - 1, &node);
  if (used < 0) return 0;
  for (used += at + 1; used < count; used++) {
    if (!memchr(words[used].start, '=', (size_t)words[used].length))
      return cn_parse_error_(p, words[used].column, "%.*s is not expected here", words[used].length,
                             words[used].start);
    if (cn_is_repeated_(words, used))
      return cn_parse_error_(p, words[used].column, "%.*s stands on this line twice",
                             words[used].length, words[used].start);
    if (!cn_parse_option_(p, &words[used], &node, &same)) return 0;
  }
  if (same && p->net->node_count) {
    const cn_shape in =
        p->net->nodes[node.input_count ? node.inputs[0] : p->net->node_count - 1].shape;
    const cn_pool2d pool = cn_node_pool_(&node, in);
    const cn_window w = cn_window_filled_(node.op == CN_OP_CONV ? node.window : pool.window);
    cn_same_padding_(in.height, w.height, w.stride_y, w.dilation_y, &node.window.pad_top,
                     &node.window.pad_bottom);
    cn_same_padding_(in.width, w.width, w.stride_x, w.dilation_x, &node.window.pad_left,
                     &node.window.pad_right);
  }
  return cn_append_node_(p->net, &node, p->error) >= 0 || cn_place_error_(p, words[at].column);
}

/* Appends a text's nodes without room for their values. */
static int cn_parse_lines_(cn_parser_ *p, const char *text) {
  if (!text) {
    cn_fail_(p->error, CN_ERROR_ARGUMENT, "there is no text");
    return 0;
  }
  if (strncmp(text, "\xEF\xBB\xBF", 3) == 0) text += 3; /* a byte order mark, which editors leave */
  for (p->line = 1; *text; p->line++) {
    const size_t length = strcspn(text, "\n");
    if (length >= 65536) return cn_parse_error_(p, 1, "the line is longer than 65535 bytes");
    if (!cn_parse_line_(p, text, (int)length)) return 0;
    text += length + (text[length] == '\n');
  }
  if (p->net->node_count >= 2 && p->net->nodes[p->net->node_count - 1].op != CN_OP_INPUT) return 1;
  return cn_parse_error_(p, 1, "the network needs an input and at least one more node behind it");
}

CN_API cn_status cn_network_add_text(cn_network *net, const char *text, cn_error *error) {
  const cn_sizes_ before = cn_sizes_of_(net);
  cn_error local;
  cn_parser_ parser;
  parser.net = net, parser.line = 1, parser.error = error ? error : &local;
  if (cn_parse_lines_(&parser, text) &&
      cn_grow_values_(net, before.value_count, parser.error) == CN_OK) {
    cn_init_tensors_(net, before.tensor_count, 1);
    return CN_OK;
  }
  cn_restore_sizes_(net, before);
  return parser.error->status;
}

/* A network without room for its values: cn_grow_values_ must follow. */
static cn_network *cn_parse_graph_(const char *text, cn_error *error) {
  cn_parser_ parser;
  parser.net = cn_network_create(error), parser.error = error;
  if (parser.net && cn_parse_lines_(&parser, text)) return parser.net;
  cn_network_free(parser.net);
  return NULL;
}

/* cn_network_parse with all parameters 0. */
static cn_network *cn_parse_(const char *text, cn_error *error) {
  cn_network *net = cn_parse_graph_(text, error);
  if (net && cn_grow_values_(net, 0, error) == CN_OK) return net;
  cn_network_free(net);
  return NULL;
}

CN_API cn_network *cn_network_parse(const char *text, cn_error *error) {
  cn_network *net = cn_parse_(text, error);
  if (net) cn_network_init(net, 1);
  return net;
}

/* ---- built-in networks ----
   One writer a family, beside the paper that describes it. Nodes with parameters have the names of
   torchvision (Xception and Inception-ResNet v2: timm), so that state dicts load; a block's last
   node has the block's name. */

typedef struct cn_arch_ {
  const char *name;
  /* writes all that stands between the input and the final softmax */
  void (*write)(cn_text_ *text, const struct cn_arch_ *arch, const cn_arch_options *options);
  int size, channels, classes; /* its own: rows and columns, channels of the input; outputs */
  int least, least_auxiliary;  /* fewest rows and columns; the same with auxiliary heads, 0: none */
  int numbers[6];              /* what tells it from the rest of its family, see the writer */
  const char *body;            /* of a small network: the lines in front of the last dense layer */
} cn_arch_;

static void cn_write_small_(cn_text_ *text, const cn_arch_ *arch, const cn_arch_options *options) {
  cn_text_add_(text, "%sdense %d\n", arch->body, options->classes);
}

/* AlexNet, with one column of filters (Krizhevsky 2014). */
static void cn_write_alexnet_(cn_text_ *text, const cn_arch_ *arch,
                              const cn_arch_options *options) {
  (void)arch;
  cn_text_add_(text,
               "features.0: conv 64 11x11 stride=4 pad=2 init=he\nrelu\nmaxpool 3x3 stride=2\n"
               "features.3: conv 192 5x5 pad=2 init=he\nrelu\nmaxpool 3x3 stride=2\n"
               "features.6: conv 384 3x3 pad=1 init=he\nrelu\n"
               "features.8: conv 256 3x3 pad=1 init=he\nrelu\n"
               "features.10: conv 256 3x3 pad=1 init=he\nrelu\nmaxpool 3x3 stride=2\n"
               "adaptivemean 6x6\n"
               "dropout 0.5\nclassifier.1: dense 4096 init=he\nrelu\n"
               "dropout 0.5\nclassifier.4: dense 4096 init=he\nrelu\n"
               "classifier.6: dense %d\n",
               options->classes);
}

/* VGG (Simonyan & Zisserman 2015, table 1). numbers: convolutions of the five stages, batch
   norm. */
static void cn_write_vgg_(cn_text_ *text, const cn_arch_ *arch, const cn_arch_options *options) {
  static const int filters[5] = {64, 128, 256, 512, 512};
  const int normalise = arch->numbers[5];
  int stage, i, place = 0; /* place: of a layer in torchvision's list of them */
  for (stage = 0; stage < 5; stage++) {
    for (i = 0; i < arch->numbers[stage]; i++, place += 2 + normalise) {
      cn_text_add_(text, "features.%d: conv %d 3x3 pad=1 init=he\n", place, filters[stage]);
      if (normalise) cn_text_add_(text, "features.%d: batchnorm\n", place + 1);
      cn_text_add_(text, "relu\n");
    }
    cn_text_add_(text, "maxpool 2x2\n"), place++;
  }
  cn_text_add_(text,
               "adaptivemean 7x7\n"
               "classifier.0: dense 4096 init=gaussian:0.01\nrelu\ndropout 0.5\n"
               "classifier.3: dense 4096 init=gaussian:0.01\nrelu\ndropout 0.5\n"
               "classifier.6: dense %d init=gaussian:0.01\n",
               options->classes);
}

/* A residual block that ends as `name` (He et al. 2016, figure 5): two convolutions or, with
   expansion 4, a bottleneck of three, whose middle one may be grouped (ResNeXt: Xie et al. 2017,
   figure 3). The stride stands at the 3x3 convolution of a bottleneck, as in all implementations
   since. project: the shortcut is a convolution. */
static void cn_write_residual_(cn_text_ *text, const char *name, const char *from, int filters,
                               int expansion, int groups, int stride, int project) {
  const int inner = groups > 1 ? 2 * filters : filters; /* 32 groups of 4 where ResNet has 64 */
  if (expansion == 1)
    cn_text_add_(text,
                 "%s.conv1: conv %d 3x3 stride=%d pad=1 bias=no init=he from=%s\n"
                 "%s.bn1: batchnorm\nrelu\n%s.conv2: conv %d 3x3 pad=1 bias=no init=he\n",
                 name, filters, stride, from, name, name, filters);
  else
    cn_text_add_(text,
                 "%s.conv1: conv %d 1x1 bias=no init=he from=%s\n%s.bn1: batchnorm\nrelu\n"
                 "%s.conv2: conv %d 3x3 stride=%d pad=1 groups=%d bias=no init=he\n"
                 "%s.bn2: batchnorm\nrelu\n%s.conv3: conv %d 1x1 bias=no init=he\n",
                 name, inner, from, name, name, inner, stride, groups, name, name,
                 expansion * filters);
  cn_text_add_(text, "%s.bn%d: batchnorm\n", name, expansion == 1 ? 2 : 3);
  if (project)
    cn_text_add_(text,
                 "%s.downsample.0: conv %d 1x1 stride=%d bias=no init=he from=%s\n"
                 "%s.downsample.1: batchnorm\n",
                 name, expansion * filters, stride, from, name);
  cn_text_add_(text, "add from=%s.bn%d,%s%s\n%s: relu\n", name, expansion == 1 ? 2 : 3,
               project ? name : from, project ? ".downsample.1" : "", name);
}

/* ResNet (He et al. 2016, table 1). numbers: blocks of the four stages, expansion, groups. */
static void cn_write_resnet_(cn_text_ *text, const cn_arch_ *arch, const cn_arch_options *options) {
  const int expansion = arch->numbers[4];
  char from[CN_MAX_NAME] = "maxpool1", name[CN_MAX_NAME];
  int stage, block;
  cn_text_add_(text, "conv1: conv 64 7x7 stride=2 pad=3 bias=no init=he\nbn1: batchnorm\nrelu\n"
                     "maxpool 3x3 stride=2 pad=1\n");
  for (stage = 0; stage < 4; stage++) {
    for (block = 0; block < arch->numbers[stage]; block++) {
      const int first = block == 0;
      snprintf(name, sizeof name, "layer%d.%d", stage + 1, block);
      cn_write_residual_(text, name, from, 64 << stage, expansion, arch->numbers[5],
                         first && stage > 0 ? 2 : 1, first && (stage > 0 || expansion > 1));
      memcpy(from, name, sizeof from);
    }
  }
  cn_text_add_(text, "globalmean\nfc: dense %d\n", options->classes);
}

/* A Fire module (Iandola et al. 2016, figure 1): a squeeze to few channels, then 1x1 and 3x3
   convolutions side by side, `expand` filters each. */
static void cn_write_fire_(cn_text_ *text, int place, int squeeze, int expand) {
  const int p = place;
  cn_text_add_(text,
               "features.%d.squeeze: conv %d 1x1 init=he\nfeatures.%d.squeezed: relu\n"
               "features.%d.expand1x1: conv %d 1x1 init=he\nfeatures.%d.point: relu\n"
               "features.%d.expand3x3: conv %d 3x3 pad=1 init=he from=features.%d.squeezed\n"
               "features.%d.square: relu\nconcat from=features.%d.point,features.%d.square\n",
               p, squeeze, p, p, expand, p, p, expand, p, p, p, p);
}

/* SqueezeNet (Iandola et al. 2016, table 1). numbers: 0 for version 1.0, 1 for version 1.1, which
   starts with a smaller window and pools earlier. */
static void cn_write_squeezenet_(cn_text_ *text, const cn_arch_ *arch,
                                 const cn_arch_options *options) {
  static const int squeeze[8] = {16, 16, 32, 32, 48, 48, 64, 64};
  static const int pools[2] = {1 << 0 | 1 << 3 | 1 << 7, 1 << 0 | 1 << 2 | 1 << 4};
  const int version = arch->numbers[0];
  int i, place = 2;
  cn_text_add_(text, "features.0: conv %s stride=2 init=he\nrelu\n", version ? "64 3x3" : "96 7x7");
  for (i = 0; i < 8; i++, place++) {
    if (pools[version] >> i & 1) cn_text_add_(text, "maxpool 3x3 stride=2 ceil=yes\n"), place++;
    cn_write_fire_(text, place, squeeze[i], 4 * squeeze[i]);
  }
  cn_text_add_(text,
               "dropout 0.5\nclassifier.1: conv %d 1x1 init=gaussian:0.01\nrelu\nglobalmean\n",
               options->classes);
}

/* DenseNet-BC (Huang et al. 2017, table 1). numbers: layers of the four dense blocks, growth rate,
   filters of the first convolution. A layer joins its maps to all that
   came before it in its block. */
static void cn_write_densenet_(cn_text_ *text, const cn_arch_ *arch,
                               const cn_arch_options *options) {
  const int growth = arch->numbers[4];
  int channels = arch->numbers[5], block, layer;
  char from[CN_MAX_NAME], name[CN_MAX_NAME];
  cn_text_add_(text,
               "features.conv0: conv %d 7x7 stride=2 pad=3 bias=no init=he\n"
               "features.norm0: batchnorm\nrelu\nfeatures.pool0: maxpool 3x3 stride=2 pad=1\n",
               channels);
  snprintf(from, sizeof from, "features.pool0");
  for (block = 1; block <= 4; block++) {
    for (layer = 1; layer <= arch->numbers[block - 1]; layer++, channels += growth) {
      snprintf(name, sizeof name, "features.denseblock%d.denselayer%d", block, layer);
      cn_text_add_(text,
                   "%s.norm1: batchnorm from=%s\nrelu\n%s.conv1: conv %d 1x1 bias=no init=he\n"
                   "%s.norm2: batchnorm\nrelu\n%s.conv2: conv %d 3x3 pad=1 bias=no init=he\n"
                   "%s: concat from=%s,%s.conv2\n",
                   name, from, name, 4 * growth, name, name, growth, name, from, name);
      memcpy(from, name, sizeof from);
    }
    if (block == 4) break;
    channels /= 2;
    cn_text_add_(text,
                 "features.transition%d.norm: batchnorm\nrelu\n"
                 "features.transition%d.conv: conv %d 1x1 bias=no init=he\n"
                 "features.transition%d.pool: meanpool 2x2\n",
                 block, block, channels, block);
    snprintf(from, sizeof from, "features.transition%d.pool", block);
  }
  cn_text_add_(text, "features.norm5: batchnorm\nrelu\nglobalmean\nclassifier: dense %d\n",
               options->classes);
}

/* The unit of all Inception networks: convolution, batch norm, ReLU. It ends as block.name, or as
   name where block is ""; from NULL: it reads the line above. */
static void cn_write_unit_(cn_text_ *text, const char *block, const char *name, const char *from,
                           int filters, const char *window) {
  const char *dot = *block ? "." : "";
  cn_text_add_(text, "%s%s%s.conv: conv %d %s bias=no init=he%s%s\n", block, dot, name, filters,
               window, from ? " from=" : "", from ? from : "");
  cn_text_add_(text, "%s%s%s.bn: batchnorm eps=0.001\n%s%s%s: relu\n", block, dot, name, block, dot,
               name);
}

/* An Inception block (Szegedy et al. 2015, figure 2b). filters: #1x1, #3x3 reduce, #3x3, #5x5
   reduce, #5x5, pool proj of their table 1. The window called 5x5 is 3x3, as in torchvision. */
static void cn_write_googlenet_block_(cn_text_ *text, const char *b, const char *from,
                                      const int *filters) {
  cn_write_unit_(text, b, "branch1", from, filters[0], "1x1");
  cn_write_unit_(text, b, "branch2.0", from, filters[1], "1x1");
  cn_write_unit_(text, b, "branch2.1", NULL, filters[2], "3x3 pad=1");
  cn_write_unit_(text, b, "branch3.0", from, filters[3], "1x1");
  cn_write_unit_(text, b, "branch3.1", NULL, filters[4], "3x3 pad=1");
  cn_text_add_(text, "%s.branch4.0: maxpool 3x3 stride=1 pad=1 from=%s\n", b, from);
  cn_write_unit_(text, b, "branch4.1", NULL, filters[5], "1x1");
  cn_text_add_(text, "%s: concat from=%s.branch1,%s.branch2.1,%s.branch3.1,%s.branch4.1\n", b, b, b,
               b, b);
}

/* Its auxiliary heads (section 5); each loss counts 0.3. */
static void cn_write_googlenet_head_(cn_text_ *text, const char *name, const char *from,
                                     int classes) {
  cn_text_add_(text, "adaptivemean 4x4 from=%s\n", from);
  cn_write_unit_(text, name, "conv", NULL, 128, "1x1");
  cn_text_add_(text, "%s.fc1: dense 1024 init=he\nrelu\ndropout 0.7\n", name);
  cn_text_add_(text, "%s.fc2: dense %d\n%s: softmax loss=0.3\n", name, classes, name);
}

/* GoogLeNet (Szegedy et al. 2015, table 1), with batch norm as torchvision has it. */
static void cn_write_googlenet_(cn_text_ *text, const cn_arch_ *arch,
                                const cn_arch_options *options) {
  static const struct {
    const char *name, *from;
    int filters[6];
  } blocks[9] = {{"inception3a", "maxpool2", {64, 96, 128, 16, 32, 32}},
                 {"inception3b", "inception3a", {128, 128, 192, 32, 96, 64}},
                 {"inception4a", "maxpool3", {192, 96, 208, 16, 48, 64}},
                 {"inception4b", "inception4a", {160, 112, 224, 24, 64, 64}},
                 {"inception4c", "inception4b", {128, 128, 256, 24, 64, 64}},
                 {"inception4d", "inception4c", {112, 144, 288, 32, 64, 64}},
                 {"inception4e", "inception4d", {256, 160, 320, 32, 128, 128}},
                 {"inception5a", "maxpool4", {256, 160, 320, 32, 128, 128}},
                 {"inception5b", "inception5a", {384, 192, 384, 48, 128, 128}}};
  int i;
  (void)arch;
  cn_write_unit_(text, "", "conv1", NULL, 64, "7x7 stride=2 pad=3");
  cn_text_add_(text, "maxpool1: maxpool 3x3 stride=2 ceil=yes\n");
  cn_write_unit_(text, "", "conv2", NULL, 64, "1x1");
  cn_write_unit_(text, "", "conv3", NULL, 192, "3x3 pad=1");
  cn_text_add_(text, "maxpool2: maxpool 3x3 stride=2 ceil=yes\n");
  for (i = 0; i < 9; i++) {
    cn_write_googlenet_block_(text, blocks[i].name, blocks[i].from, blocks[i].filters);
    if (i == 1) cn_text_add_(text, "maxpool3: maxpool 3x3 stride=2 ceil=yes\n");
    if (i == 6) cn_text_add_(text, "maxpool4: maxpool 2x2 stride=2 ceil=yes\n");
  }
  if (options->auxiliary) {
    cn_write_googlenet_head_(text, "aux1", "inception4a", options->classes);
    cn_write_googlenet_head_(text, "aux2", "inception4d", options->classes);
  }
  cn_text_add_(text, "globalmean from=inception5b\ndropout 0.2\nfc: dense %d\n", options->classes);
}

/* The five kinds of blocks of Inception v3 (Szegedy et al. 2016): figure 5; the reduction of figure
   10; figure 6 with n = 7; the other reduction; figure 7. */
static void cn_write_inception_a_(cn_text_ *text, const char *b, const char *from, int projection) {
  cn_write_unit_(text, b, "branch1x1", from, 64, "1x1");
  cn_write_unit_(text, b, "branch5x5_1", from, 48, "1x1");
  cn_write_unit_(text, b, "branch5x5_2", NULL, 64, "5x5 pad=2");
  cn_write_unit_(text, b, "branch3x3dbl_1", from, 64, "1x1");
  cn_write_unit_(text, b, "branch3x3dbl_2", NULL, 96, "3x3 pad=1");
  cn_write_unit_(text, b, "branch3x3dbl_3", NULL, 96, "3x3 pad=1");
  cn_text_add_(text, "meanpool 3x3 stride=1 pad=1 count=all from=%s\n", from);
  cn_write_unit_(text, b, "branch_pool", NULL, projection, "1x1");
  cn_text_add_(text,
               "%s: concat from=%s.branch1x1,%s.branch5x5_2,%s.branch3x3dbl_3,%s.branch_pool\n", b,
               b, b, b, b);
}

static void cn_write_inception_b_(cn_text_ *text, const char *b, const char *from) {
  cn_write_unit_(text, b, "branch3x3", from, 384, "3x3 stride=2");
  cn_write_unit_(text, b, "branch3x3dbl_1", from, 64, "1x1");
  cn_write_unit_(text, b, "branch3x3dbl_2", NULL, 96, "3x3 pad=1");
  cn_write_unit_(text, b, "branch3x3dbl_3", NULL, 96, "3x3 stride=2");
  cn_text_add_(text, "%s.branch_pool: maxpool 3x3 stride=2 from=%s\n", b, from);
  cn_text_add_(text, "%s: concat from=%s.branch3x3,%s.branch3x3dbl_3,%s.branch_pool\n", b, b, b, b);
}

static void cn_write_inception_c_(cn_text_ *text, const char *b, const char *from, int inner) {
  cn_write_unit_(text, b, "branch1x1", from, 192, "1x1");
  cn_write_unit_(text, b, "branch7x7_1", from, inner, "1x1");
  cn_write_unit_(text, b, "branch7x7_2", NULL, inner, "1x7 pad=0x3");
  cn_write_unit_(text, b, "branch7x7_3", NULL, 192, "7x1 pad=3x0");
  cn_write_unit_(text, b, "branch7x7dbl_1", from, inner, "1x1");
  cn_write_unit_(text, b, "branch7x7dbl_2", NULL, inner, "7x1 pad=3x0");
  cn_write_unit_(text, b, "branch7x7dbl_3", NULL, inner, "1x7 pad=0x3");
  cn_write_unit_(text, b, "branch7x7dbl_4", NULL, inner, "7x1 pad=3x0");
  cn_write_unit_(text, b, "branch7x7dbl_5", NULL, 192, "1x7 pad=0x3");
  cn_text_add_(text, "meanpool 3x3 stride=1 pad=1 count=all from=%s\n", from);
  cn_write_unit_(text, b, "branch_pool", NULL, 192, "1x1");
  cn_text_add_(text,
               "%s: concat from=%s.branch1x1,%s.branch7x7_3,%s.branch7x7dbl_5,%s.branch_pool\n", b,
               b, b, b, b);
}

static void cn_write_inception_d_(cn_text_ *text, const char *b, const char *from) {
  cn_write_unit_(text, b, "branch3x3_1", from, 192, "1x1");
  cn_write_unit_(text, b, "branch3x3_2", NULL, 320, "3x3 stride=2");
  cn_write_unit_(text, b, "branch7x7x3_1", from, 192, "1x1");
  cn_write_unit_(text, b, "branch7x7x3_2", NULL, 192, "1x7 pad=0x3");
  cn_write_unit_(text, b, "branch7x7x3_3", NULL, 192, "7x1 pad=3x0");
  cn_write_unit_(text, b, "branch7x7x3_4", NULL, 192, "3x3 stride=2");
  cn_text_add_(text, "%s.branch_pool: maxpool 3x3 stride=2 from=%s\n", b, from);
  cn_text_add_(text, "%s: concat from=%s.branch3x3_2,%s.branch7x7x3_4,%s.branch_pool\n", b, b, b,
               b);
}

static void cn_write_inception_e_(cn_text_ *text, const char *b, const char *from) {
  char split[CN_MAX_NAME]; /* where a branch becomes two */
  cn_write_unit_(text, b, "branch1x1", from, 320, "1x1");
  cn_write_unit_(text, b, "branch3x3_1", from, 384, "1x1");
  snprintf(split, sizeof split, "%s.branch3x3_1", b);
  cn_write_unit_(text, b, "branch3x3_2a", split, 384, "1x3 pad=0x1");
  cn_write_unit_(text, b, "branch3x3_2b", split, 384, "3x1 pad=1x0");
  cn_write_unit_(text, b, "branch3x3dbl_1", from, 448, "1x1");
  cn_write_unit_(text, b, "branch3x3dbl_2", NULL, 384, "3x3 pad=1");
  snprintf(split, sizeof split, "%s.branch3x3dbl_2", b);
  cn_write_unit_(text, b, "branch3x3dbl_3a", split, 384, "1x3 pad=0x1");
  cn_write_unit_(text, b, "branch3x3dbl_3b", split, 384, "3x1 pad=1x0");
  cn_text_add_(text, "meanpool 3x3 stride=1 pad=1 count=all from=%s\n", from);
  cn_write_unit_(text, b, "branch_pool", NULL, 192, "1x1");
  cn_text_add_(text,
               "%s: concat from=%s.branch1x1,%s.branch3x3_2a,%s.branch3x3_2b,%s.branch3x3dbl_3a,"
               "%s.branch3x3dbl_3b,%s.branch_pool\n",
               b, b, b, b, b, b, b);
}

/* Inception v3 (Szegedy et al. 2016, table 1); the auxiliary head's loss counts 0.4. */
static void cn_write_inception_v3_(cn_text_ *text, const cn_arch_ *arch,
                                   const cn_arch_options *options) {
  (void)arch;
  cn_write_unit_(text, "", "Conv2d_1a_3x3", NULL, 32, "3x3 stride=2");
  cn_write_unit_(text, "", "Conv2d_2a_3x3", NULL, 32, "3x3");
  cn_write_unit_(text, "", "Conv2d_2b_3x3", NULL, 64, "3x3 pad=1");
  cn_text_add_(text, "maxpool 3x3 stride=2\n");
  cn_write_unit_(text, "", "Conv2d_3b_1x1", NULL, 80, "1x1");
  cn_write_unit_(text, "", "Conv2d_4a_3x3", NULL, 192, "3x3");
  cn_text_add_(text, "maxpool2: maxpool 3x3 stride=2\n");
  cn_write_inception_a_(text, "Mixed_5b", "maxpool2", 32);
  cn_write_inception_a_(text, "Mixed_5c", "Mixed_5b", 64);
  cn_write_inception_a_(text, "Mixed_5d", "Mixed_5c", 64);
  cn_write_inception_b_(text, "Mixed_6a", "Mixed_5d");
  cn_write_inception_c_(text, "Mixed_6b", "Mixed_6a", 128);
  cn_write_inception_c_(text, "Mixed_6c", "Mixed_6b", 160);
  cn_write_inception_c_(text, "Mixed_6d", "Mixed_6c", 160);
  cn_write_inception_c_(text, "Mixed_6e", "Mixed_6d", 192);
  if (options->auxiliary) {
    cn_text_add_(text, "meanpool 5x5 stride=3\n");
    cn_write_unit_(text, "AuxLogits", "conv0", NULL, 128, "1x1");
    cn_write_unit_(text, "AuxLogits", "conv1", NULL, 768, "5x5");
    cn_text_add_(text, "globalmean\nAuxLogits.fc: dense %d\nAuxLogits: softmax loss=0.4\n",
                 options->classes);
  }
  cn_write_inception_d_(text, "Mixed_7a", "Mixed_6e");
  cn_write_inception_e_(text, "Mixed_7b", "Mixed_7a");
  cn_write_inception_e_(text, "Mixed_7c", "Mixed_7b");
  cn_text_add_(text, "globalmean\ndropout 0.5\nfc: dense %d\n", options->classes);
}

/* The end of a residual Inception block (Szegedy et al. 2017, figure 20): branches joined, brought
   to `filters` channels, scaled so that training stays stable, added. */
static void cn_write_scaled_(cn_text_ *text, const char *b, const char *from, const char *branches,
                             int filters, const char *scale, int relu) {
  cn_text_add_(text, "concat from=%s\n%s.conv2d: conv %d 1x1 init=he\n%s.scaled: scale %s\n",
               branches, b, filters, b, scale);
  cn_text_add_(text, "%s%s: add from=%s.scaled,%s\n", b, relu ? ".sum" : "", b, from);
  if (relu) cn_text_add_(text, "%s: relu\n", b);
}

static void cn_write_block35_(cn_text_ *text, const char *b, const char *from) { /* figure 16 */
  char branches[4 * CN_MAX_NAME];
  cn_write_unit_(text, b, "branch0", from, 32, "1x1");
  cn_write_unit_(text, b, "branch1.0", from, 32, "1x1");
  cn_write_unit_(text, b, "branch1.1", NULL, 32, "3x3 pad=1");
  cn_write_unit_(text, b, "branch2.0", from, 32, "1x1");
  cn_write_unit_(text, b, "branch2.1", NULL, 48, "3x3 pad=1");
  cn_write_unit_(text, b, "branch2.2", NULL, 64, "3x3 pad=1");
  snprintf(branches, sizeof branches, "%s.branch0,%s.branch1.1,%s.branch2.2", b, b, b);
  cn_write_scaled_(text, b, from, branches, 320, "0.17", 1);
}

static void cn_write_block17_(cn_text_ *text, const char *b, const char *from) { /* figure 17 */
  char branches[4 * CN_MAX_NAME];
  cn_write_unit_(text, b, "branch0", from, 192, "1x1");
  cn_write_unit_(text, b, "branch1.0", from, 128, "1x1");
  cn_write_unit_(text, b, "branch1.1", NULL, 160, "1x7 pad=0x3");
  cn_write_unit_(text, b, "branch1.2", NULL, 192, "7x1 pad=3x0");
  snprintf(branches, sizeof branches, "%s.branch0,%s.branch1.2", b, b);
  cn_write_scaled_(text, b, from, branches, 1088, "0.1", 1);
}

static void cn_write_block8_(cn_text_ *text, const char *b, const char *from, /* figure 19 */
                             const char *scale, int relu) {
  char branches[4 * CN_MAX_NAME];
  cn_write_unit_(text, b, "branch0", from, 192, "1x1");
  cn_write_unit_(text, b, "branch1.0", from, 192, "1x1");
  cn_write_unit_(text, b, "branch1.1", NULL, 224, "1x3 pad=0x1");
  cn_write_unit_(text, b, "branch1.2", NULL, 256, "3x1 pad=1x0");
  snprintf(branches, sizeof branches, "%s.branch0,%s.branch1.2", b, b);
  cn_write_scaled_(text, b, from, branches, 2080, scale, relu);
}

/* The blocks between: mixed_5b widens, mixed_6a and mixed_7a (figures 7 and 18) halve the map. */
static void cn_write_mixed_5b_(cn_text_ *text, const char *b, const char *from) {
  cn_write_unit_(text, b, "branch0", from, 96, "1x1");
  cn_write_unit_(text, b, "branch1.0", from, 48, "1x1");
  cn_write_unit_(text, b, "branch1.1", NULL, 64, "5x5 pad=2");
  cn_write_unit_(text, b, "branch2.0", from, 64, "1x1");
  cn_write_unit_(text, b, "branch2.1", NULL, 96, "3x3 pad=1");
  cn_write_unit_(text, b, "branch2.2", NULL, 96, "3x3 pad=1");
  cn_text_add_(text, "%s.branch3.0: meanpool 3x3 stride=1 pad=1 from=%s\n", b, from);
  cn_write_unit_(text, b, "branch3.1", NULL, 64, "1x1");
  cn_text_add_(text, "%s: concat from=%s.branch0,%s.branch1.1,%s.branch2.2,%s.branch3.1\n", b, b, b,
               b, b);
}

static void cn_write_mixed_6a_(cn_text_ *text, const char *b, const char *from) {
  cn_write_unit_(text, b, "branch0", from, 384, "3x3 stride=2");
  cn_write_unit_(text, b, "branch1.0", from, 256, "1x1");
  cn_write_unit_(text, b, "branch1.1", NULL, 256, "3x3 pad=1");
  cn_write_unit_(text, b, "branch1.2", NULL, 384, "3x3 stride=2");
  cn_text_add_(text, "%s.branch2: maxpool 3x3 stride=2 from=%s\n", b, from);
  cn_text_add_(text, "%s: concat from=%s.branch0,%s.branch1.2,%s.branch2\n", b, b, b, b);
}

static void cn_write_mixed_7a_(cn_text_ *text, const char *b, const char *from) {
  cn_write_unit_(text, b, "branch0.0", from, 256, "1x1");
  cn_write_unit_(text, b, "branch0.1", NULL, 384, "3x3 stride=2");
  cn_write_unit_(text, b, "branch1.0", from, 256, "1x1");
  cn_write_unit_(text, b, "branch1.1", NULL, 288, "3x3 stride=2");
  cn_write_unit_(text, b, "branch2.0", from, 256, "1x1");
  cn_write_unit_(text, b, "branch2.1", NULL, 288, "3x3 pad=1");
  cn_write_unit_(text, b, "branch2.2", NULL, 320, "3x3 stride=2");
  cn_text_add_(text, "%s.branch3: maxpool 3x3 stride=2 from=%s\n", b, from);
  cn_text_add_(text, "%s: concat from=%s.branch0.1,%s.branch1.1,%s.branch2.2,%s.branch3\n", b, b, b,
               b, b);
}

/* Inception-ResNet v2 (Szegedy et al. 2017, figure 15). */
static void cn_write_inception_resnet_v2_(cn_text_ *text, const cn_arch_ *arch,
                                          const cn_arch_options *options) {
  char from[CN_MAX_NAME] = "mixed_5b", b[CN_MAX_NAME];
  int i;
  (void)arch;
  cn_write_unit_(text, "", "conv2d_1a", NULL, 32, "3x3 stride=2");
  cn_write_unit_(text, "", "conv2d_2a", NULL, 32, "3x3");
  cn_write_unit_(text, "", "conv2d_2b", NULL, 64, "3x3 pad=1");
  cn_text_add_(text, "maxpool_3a: maxpool 3x3 stride=2\n");
  cn_write_unit_(text, "", "conv2d_3b", NULL, 80, "1x1");
  cn_write_unit_(text, "", "conv2d_4a", NULL, 192, "3x3");
  cn_text_add_(text, "maxpool_5a: maxpool 3x3 stride=2\n");
  cn_write_mixed_5b_(text, "mixed_5b", "maxpool_5a");
  for (i = 0; i < 10; i++, memcpy(from, b, sizeof from)) {
    snprintf(b, sizeof b, "repeat.%d", i);
    cn_write_block35_(text, b, from);
  }
  cn_write_mixed_6a_(text, "mixed_6a", from);
  snprintf(from, sizeof from, "mixed_6a");
  for (i = 0; i < 20; i++, memcpy(from, b, sizeof from)) {
    snprintf(b, sizeof b, "repeat_1.%d", i);
    cn_write_block17_(text, b, from);
  }
  cn_write_mixed_7a_(text, "mixed_7a", from);
  snprintf(from, sizeof from, "mixed_7a");
  for (i = 0; i < 9; i++, memcpy(from, b, sizeof from)) {
    snprintf(b, sizeof b, "repeat_2.%d", i);
    cn_write_block8_(text, b, from, "0.2", 1);
  }
  cn_write_block8_(text, "block8", from, "1", 0);
  cn_write_unit_(text, "", "conv2d_7b", NULL, 1536, "1x1");
  cn_text_add_(text, "globalmean\nclassif: dense %d\n", options->classes);
}

/* A depthwise separable convolution, 3x3 (Chollet 2017, section 1.3). */
static void cn_write_separable_(cn_text_ *text, const char *name, int channels, int filters) {
  cn_text_add_(text,
               "%s.conv1: conv %d 3x3 pad=1 groups=%d bias=no init=he\n"
               "%s.pointwise: conv %d 1x1 bias=no init=he\n",
               name, channels, channels, name, filters);
}

/* Block number b of Xception: ReLU (but for the first block), separable convolution and batch norm,
   `repeats` times, then with stride 2 a pooling; the shortcut is a convolution where the shape
   changes. The first `narrow` convolutions keep the number of channels. */
static void cn_write_xception_block_(cn_text_ *text, int b, int channels, int filters, int repeats,
                                     int stride, int narrow) {
  char name[CN_MAX_NAME], from[CN_MAX_NAME];
  int i, place = 0, in = channels;
  if (b == 1)
    snprintf(from, sizeof from, "act2");
  else
    snprintf(from, sizeof from, "block%d", b - 1);
  for (i = 0; i < repeats; i++) {
    const int out = i < narrow ? channels : filters;
    if (b > 1 || i > 0) {
      cn_text_add_(text, "block%d.rep.%d: relu\n", b, place++);
    }
    snprintf(name, sizeof name, "block%d.rep.%d", b, place++);
    cn_write_separable_(text, name, in, out);
    cn_text_add_(text, "block%d.rep.%d: batchnorm\n", b, place++), in = out;
  }
  if (stride > 1) cn_text_add_(text, "block%d.rep.%d: maxpool 3x3 stride=2 pad=1\n", b, place++);
  if (stride > 1 || channels != filters) {
    cn_text_add_(text,
                 "block%d.skip: conv %d 1x1 stride=%d bias=no init=he from=%s\n"
                 "block%d.skipbn: batchnorm\n",
                 b, filters, stride, from, b);
    snprintf(from, sizeof from, "block%d.skipbn", b);
  }
  cn_text_add_(text, "block%d: add from=block%d.rep.%d,%s\n", b, b, place - 1, from);
}

/* Xception (Chollet 2017, figure 5). */
static void cn_write_xception_(cn_text_ *text, const cn_arch_ *arch,
                               const cn_arch_options *options) {
  int b;
  (void)arch;
  cn_text_add_(text, "conv1: conv 32 3x3 stride=2 bias=no init=he\nbn1: batchnorm\nact1: relu\n"
                     "conv2: conv 64 3x3 bias=no init=he\nbn2: batchnorm\nact2: relu\n");
  cn_write_xception_block_(text, 1, 64, 128, 2, 2, 0);
  cn_write_xception_block_(text, 2, 128, 256, 2, 2, 0);
  cn_write_xception_block_(text, 3, 256, 728, 2, 2, 0);
  for (b = 4; b < 12; b++) cn_write_xception_block_(text, b, 728, 728, 3, 1, 0);
  cn_write_xception_block_(text, 12, 728, 1024, 2, 2, 1);
  cn_write_separable_(text, "conv3", 1024, 1536);
  cn_text_add_(text, "bn3: batchnorm\nact3: relu\n");
  cn_write_separable_(text, "conv4", 1536, 2048);
  cn_text_add_(text, "bn4: batchnorm\nact4: relu\nglobalmean\nfc: dense %d\n", options->classes);
}

#define CN_SMALL_ cn_write_small_, 28, 1, 10
#define CN_224_ 224, 3, 1000
#define CN_299_ 299, 3, 1000
static const cn_arch_ cn_archs_[] = {
    {"base",
     CN_SMALL_,
     4,
     0,
     {0}, /* Torres & Cantu 2022, figure A.4 */
     "conv 16 3x3 pad=1\nrelu\nmaxpool 2x2\nconv 32 3x3 pad=1\nrelu\nmaxpool 2x2\n"
     "dense 128\nrelu\ndropout 0.5\ndense 50\nrelu\n"},
    {"revised",
     CN_SMALL_,
     8,
     0,
     {0}, /* the same, after their search */
     "conv 64 3x3 pad=1\nrelu\nmaxpool 2x2\nconv 96 3x3 pad=1\nrelu\nmaxpool 2x2\n"
     "conv 112 3x3 pad=1\nrelu\nmaxpool 2x2\ndense 150\nrelu\ndropout 0.1\ndense 70\nrelu\n"},
    {"lenet",
     CN_SMALL_,
     12,
     0,
     {0}, /* LeCun et al. 1998, but ReLU and maximum pooling */
     "conv 6 5x5 pad=2\nrelu\nmaxpool 2x2\nconv 16 5x5\nrelu\nmaxpool 2x2\n"
     "dense 120\nrelu\ndense 84\nrelu\n"},
    {"mlp",
     CN_SMALL_,
     1,
     0,
     {0}, /* James et al. 2021 (ISL), section 10.2, for a ridge penalty */
     "dense 256\nrelu\ndense 128\nrelu\n"},
    {"mlp-dropout",
     CN_SMALL_,
     1,
     0,
     {0}, /* the same with their dropout */
     "dense 256\nrelu\ndropout 0.4\ndense 128\nrelu\ndropout 0.3\n"},
    {"logistic", CN_SMALL_, 1, 0, {0}, ""},
    {"alexnet", cn_write_alexnet_, CN_224_, 63, 0, {0}, NULL},
    {"vgg11", cn_write_vgg_, CN_224_, 32, 0, {1, 1, 2, 2, 2, 0}, NULL},
    {"vgg11_bn", cn_write_vgg_, CN_224_, 32, 0, {1, 1, 2, 2, 2, 1}, NULL},
    {"vgg13", cn_write_vgg_, CN_224_, 32, 0, {2, 2, 2, 2, 2, 0}, NULL},
    {"vgg13_bn", cn_write_vgg_, CN_224_, 32, 0, {2, 2, 2, 2, 2, 1}, NULL},
    {"vgg16", cn_write_vgg_, CN_224_, 32, 0, {2, 2, 3, 3, 3, 0}, NULL},
    {"vgg16_bn", cn_write_vgg_, CN_224_, 32, 0, {2, 2, 3, 3, 3, 1}, NULL},
    {"vgg19", cn_write_vgg_, CN_224_, 32, 0, {2, 2, 4, 4, 4, 0}, NULL},
    {"vgg19_bn", cn_write_vgg_, CN_224_, 32, 0, {2, 2, 4, 4, 4, 1}, NULL},
    {"resnet18", cn_write_resnet_, CN_224_, 1, 0, {2, 2, 2, 2, 1, 1}, NULL},
    {"resnet34", cn_write_resnet_, CN_224_, 1, 0, {3, 4, 6, 3, 1, 1}, NULL},
    {"resnet50", cn_write_resnet_, CN_224_, 1, 0, {3, 4, 6, 3, 4, 1}, NULL},
    {"resnet101", cn_write_resnet_, CN_224_, 1, 0, {3, 4, 23, 3, 4, 1}, NULL},
    {"resnet152", cn_write_resnet_, CN_224_, 1, 0, {3, 8, 36, 3, 4, 1}, NULL},
    {"resnext50_32x4d", cn_write_resnet_, CN_224_, 1, 0, {3, 4, 6, 3, 4, 32}, NULL},
    {"squeezenet1_0", cn_write_squeezenet_, CN_224_, 29, 0, {0}, NULL},
    {"squeezenet1_1", cn_write_squeezenet_, CN_224_, 25, 0, {1}, NULL},
    {"densenet121", cn_write_densenet_, CN_224_, 29, 0, {6, 12, 24, 16, 32, 64}, NULL},
    {"densenet161", cn_write_densenet_, CN_224_, 29, 0, {6, 12, 36, 24, 48, 96}, NULL},
    {"densenet169", cn_write_densenet_, CN_224_, 29, 0, {6, 12, 32, 32, 32, 64}, NULL},
    {"densenet201", cn_write_densenet_, CN_224_, 29, 0, {6, 12, 48, 32, 32, 64}, NULL},
    {"googlenet", cn_write_googlenet_, CN_224_, 31, 31, {0}, NULL},
    {"inception_v3", cn_write_inception_v3_, CN_299_, 75, 299, {0}, NULL},
    {"inception_resnet_v2", cn_write_inception_resnet_v2_, CN_299_, 75, 0, {0}, NULL},
    {"xception", cn_write_xception_, CN_299_, 7, 0, {0}, NULL},
};
#define CN_ARCH_COUNT_ ((int)(sizeof cn_archs_ / sizeof cn_archs_[0]))

CN_API const char *cn_arch_name(int index) {
  return index >= 0 && index < CN_ARCH_COUNT_ ? cn_archs_[index].name : NULL;
}

/* Fills in what is 0 and checks the rest. NULL with an error. */
static const cn_arch_ *cn_arch_choose_(const char *name, cn_arch_options *o, cn_error *error) {
  const cn_arch_ *arch = NULL;
  int i, least;
  for (i = 0; i < CN_ARCH_COUNT_ && !arch; i++)
    if (strcmp(cn_archs_[i].name, name) == 0) arch = &cn_archs_[i];
  if (!arch) {
    cn_nearest_ nearest = cn_nearest_to_(name, (int)strlen(name));
    for (i = 0; i < CN_ARCH_COUNT_; i++) cn_try_name_(&nearest, cn_archs_[i].name);
    if (!nearest.name) nearest.name = "base, revised, lenet, resnet18 or another of cn_arch_name";
    cn_fail_(error, CN_ERROR_ARGUMENT, "there is no built-in network called %.80s%s%s%s", name,
             CN_DID_YOU_MEAN_(nearest));
    return NULL;
  }
  if (o->height == 0) o->height = arch->size;
  if (o->width == 0) o->width = arch->size;
  if (o->channels == 0) o->channels = arch->channels;
  if (o->classes == 0) o->classes = arch->classes;
  least = o->auxiliary ? arch->least_auxiliary : arch->least;
  if (least == 0) {
    cn_fail_(error, CN_ERROR_ARGUMENT, "%s has no auxiliary heads", name);
  } else if (o->height < least || o->width < least || o->channels < 1 ||
             o->height > CN_MAX_DIMENSION || o->width > CN_MAX_DIMENSION ||
             o->channels > CN_MAX_DIMENSION) {
    cn_fail_(error, CN_ERROR_SHAPE, "%s%s takes inputs from %dx%dx1 to %dx%dx%d, not %dx%dx%d",
             name, o->auxiliary ? " with auxiliary heads" : "", least, least, CN_MAX_DIMENSION,
             CN_MAX_DIMENSION, CN_MAX_DIMENSION, o->height, o->width, o->channels);
  } else if (o->classes < 1 || o->classes > CN_MAX_DIMENSION) {
    cn_fail_(error, CN_ERROR_ARGUMENT, "%s: %d classes are outside 1 .. %d", name, o->classes,
             CN_MAX_DIMENSION);
  } else {
    return arch;
  }
  return NULL;
}

/* The text, to be freed with CN_FREE, or NULL with an error. */
static char *cn_arch_write_(const char *name, const cn_arch_options *options, size_t *length,
                            cn_error *error) {
  const cn_arch_options standard = {0, 0, 0, 0, 0};
  cn_arch_options chosen = options ? *options : standard;
  const cn_arch_ *arch = cn_arch_choose_(name, &chosen, error);
  cn_text_ text = {NULL, 0, 0, 0, NULL};
  if (!arch) return NULL;
  cn_text_add_(&text, "input %dx%dx%d\n", chosen.height, chosen.width, chosen.channels);
  arch->write(&text, arch, &chosen);
  cn_text_add_(&text, "softmax\n");
  *length = text.length;
  if (!text.failed) return text.data;
  CN_FREE(text.data);
  cn_fail_(error, CN_ERROR_MEMORY, "no memory for the text of %s", name);
  return NULL;
}

CN_API size_t cn_arch_text(const char *name, const cn_arch_options *options, char *text,
                           size_t capacity, cn_error *error) {
  size_t length = 0;
  char *all = cn_arch_write_(name, options, &length, error);
  if (!all) return 0;
  if (capacity > 0) {
    const size_t kept = length < capacity ? length : capacity - 1;
    memcpy(text, all, kept);
    text[kept] = 0;
  }
  CN_FREE(all);
  return length;
}

CN_API cn_network *cn_arch_network(const char *name, const cn_arch_options *options,
                                   cn_error *error) {
  size_t length = 0;
  char *text = cn_arch_write_(name, options, &length, error);
  cn_network *net = text ? cn_network_parse(text, error) : NULL;
  CN_FREE(text);
  return net;
}

/* ---- parameters ---- */

CN_API void cn_network_init(cn_network *net, uint64_t seed) {
  cn_init_tensors_(net, 0, seed);
}

CN_API int cn_network_parameter_count(const cn_network *net) {
  return net->tensor_count;
}

static int cn_is_trained_(const cn_tensor_ *t) {
  return t->role <= CN_BIAS_ROLE_ && !t->frozen;
}

CN_API cn_parameter cn_network_parameter(const cn_network *net, int index) {
  cn_parameter parameter;
  const cn_tensor_ *t = net->tensors + index;
  memset(&parameter, 0, sizeof parameter);
  if (index < 0 || index >= net->tensor_count) return parameter;
  parameter.name = t->name, parameter.values = net->values + t->offset, parameter.count = t->count;
  parameter.rank = t->rank, parameter.node = t->node, parameter.trained = cn_is_trained_(t);
  memcpy(parameter.dims, t->dims, sizeof parameter.dims);
  return parameter;
}

CN_API size_t cn_network_weight_count(const cn_network *net) {
  size_t count = 0;
  int i;
  for (i = 0; i < net->tensor_count; i++)
    count += net->tensors[i].role <= CN_BIAS_ROLE_ ? net->tensors[i].count : 0;
  return count;
}

CN_API void cn_network_touch(cn_network *net) {
  cn_atomic_add_(&net->version, 1);
}

/* Does the name, with a point behind it, start with prefix? */
static int cn_name_begins_(const char *name, const char *prefix) {
  const size_t length = strlen(name);
  return strncmp(name, prefix, length) == 0
             ? prefix[length] == 0 || (prefix[length] == '.' && prefix[length + 1] == 0)
             : strncmp(name, prefix, strlen(prefix)) == 0;
}

static int cn_freeze_if_(cn_network *net, int layers, const char *prefix) {
  int i, frozen = 0, layer = 0, node = -1;
  for (i = 0; i < net->tensor_count; i++) {
    cn_tensor_ *t = &net->tensors[i];
    const int first = t->node != node;
    layer += first, node = t->node;
    if (prefix ? !cn_name_begins_(net->nodes[node].name, prefix) : layer > layers) {
      if (!prefix) t->frozen = 0;
      continue;
    }
    t->frozen = 1, frozen += first;
  }
  return frozen;
}

CN_API int cn_network_freeze(cn_network *net, int layers) {
  return cn_freeze_if_(net, layers, NULL);
}
CN_API int cn_network_freeze_named(cn_network *net, const char *prefix) {
  return cn_freeze_if_(net, 0, prefix);
}

CN_API cn_status cn_network_scale_rate(cn_network *net, int node, float factor, cn_error *error) {
  int i, found = 0;
  if (!(factor >= 0.0f && factor < 1e6f))
    return cn_fail_value_(error, "the learning rate's factor", factor, "is outside [0, 1e6)");
  for (i = 0; i < net->tensor_count; i++)
    if (net->tensors[i].node == node) net->tensors[i].rate = factor, found = 1;
  if (!found)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "node %d has no parameters to learn at a rate", node);
  return CN_OK;
}

/* ---- notes ---- */

/* Keys of notes that a program may set; the others are this library's own in a file. */
static int cn_is_note_key_(const char *key) {
  return cn_name_is_valid_(key) && strcmp(key, "network") != 0 &&
         strcmp(key, "__metadata__") != 0 && strncmp(key, "optimizer.", 10) != 0;
}

/* Index of the first key that is not below `key`. */
static int cn_note_place_(const cn_network *net, const char *key) {
  int i = 0;
  while (i < net->note_count && strcmp(net->notes[2 * i], key) < 0) i++;
  return i;
}

CN_API const char *cn_network_note(const cn_network *net, const char *key) {
  const int i = cn_note_place_(net, key);
  return i < net->note_count && strcmp(net->notes[2 * i], key) == 0 ? net->notes[2 * i + 1] : NULL;
}

CN_API cn_status cn_network_set_note(cn_network *net, const char *key, const char *value,
                                     cn_error *error) {
  const int i = cn_note_place_(net, key), found = cn_network_note(net, key) != NULL;
  char *copy, *name, **notes;
  if (!cn_is_note_key_(key))
    return cn_fail_(error, CN_ERROR_ARGUMENT, "%.80s is not a key for a note", key);
  if (value && !cn_is_utf8_(value))
    return cn_fail_(error, CN_ERROR_ARGUMENT, "the note %s is not UTF-8", key);
  if (!value) {
    if (!found) return CN_OK;
    cn_free_(&net->allocator, net->notes[2 * i]);
    cn_free_(&net->allocator, net->notes[2 * i + 1]);
    memmove(net->notes + 2 * i, net->notes + 2 * (i + 1),
            (size_t)(2 * (net->note_count - i - 1)) * sizeof *net->notes);
    net->note_count--;
    return CN_OK;
  }
  copy = cn_copy_text_(&net->allocator, value, strlen(value));
  if (copy && found) {
    cn_free_(&net->allocator, net->notes[2 * i + 1]);
    net->notes[2 * i + 1] = copy;
    return CN_OK;
  }
  name = cn_copy_text_(&net->allocator, key, strlen(key));
  notes = (char **)cn_malloc_(&net->allocator, (size_t)(2 * (net->note_count + 1)) * sizeof *notes);
  if (!copy || !name || !notes) {
    cn_free_(&net->allocator, copy);
    cn_free_(&net->allocator, name);
    cn_free_(&net->allocator, notes);
    return cn_fail_(error, CN_ERROR_MEMORY, "no memory for the note %s", key);
  }
  if (i) memcpy(notes, net->notes, (size_t)(2 * i) * sizeof *notes);
  notes[2 * i] = name, notes[2 * i + 1] = copy;
  if (net->note_count > i)
    memcpy(notes + 2 * (i + 1), net->notes + 2 * i,
           (size_t)(2 * (net->note_count - i)) * sizeof *notes);
  cn_free_(&net->allocator, net->notes);
  net->notes = notes, net->note_count++;
  return CN_OK;
}

/* ==== plans: the graph as steps over buffers of one arena =====================================

   Nodes that run as one make a step: convolution or dense + batch norm (inference) + ReLU + 2x2
   maximum pooling + dropout. Every buffer lives from one moment to another; buffers whose lives do
   not meet may share memory. Moments: step i runs forward at i, the loss at step_count, backward at
   2 * step_count - i.
   The first steps of a network with small feature maps take a large batch in slices: one thread
   takes some images through all of these steps before it takes the next ones, so that it finds
   their feature maps in its own cache. What nobody reads behind these steps lives in its
   workspace. */

typedef struct cn_buffer_ {
  size_t bytes, offset;
  int first, last; /* moments */
  int sliced;      /* one slice's, in the workspace of the thread that takes it */
} cn_buffer_;

typedef struct cn_step_ {
  cn_op op;   /* CN_OP_DENSE runs as CN_OP_CONV; CN_OP_INPUT has nothing to do */
  int node;   /* the last node of the chain: the step's output is its output */
  int source; /* CN_OP_INPUT: number of the input */
  int input_count;
  int *inputs;       /* steps */
  int *writes_first; /* per input: backward it is the first to write that gradient */
  cn_shape in, out;  /* of one image; in: of the first input */
  cn_conv2d conv;    /* count is set when it runs */
  cn_pool2d pool;
  int dense, relu;
  float rate; /* of dropout behind ReLU, or of a dropout step */
  float eps, momentum, factor;
  int ends;           /* a head reads its output */
  int kept;           /* its output can be read afterwards */
  int weight, bias;   /* tensors or -1 */
  int norm;           /* first of a batch norm's four tensors or -1 */
  int trains;         /* has trained tensors */
  int wants_gradient; /* it or something below it trains, or is an input whose gradient is wanted */
  int value, gradient, argmax, packed, packed_backward, partial, folded, saved, sums,
      spill; /* buffers or -1 */
} cn_step_;

/* Where the graph ends: at an output or, in training, at an auxiliary head. In the order of the
   nodes, so that the last one is the last node's. */
typedef struct cn_head_ {
  int node, step; /* the step delivers the values, or the logits of a softmax or sigmoid */
  cn_op op;       /* CN_OP_SOFTMAX, CN_OP_SIGMOID or anything else: decides output and loss */
  int auxiliary;
  int output;   /* its number; an auxiliary head learns the last one's labels */
  float weight; /* of its loss */
} cn_head_;

/* What a predictor or trainer asks of its plan. */
typedef struct cn_request_ {
  int max_count, threads;
  cn_parallel parallel;
  cn_math math;
  int training, gradients; /* gradients: of inputs */
  const int *keep;
  int keep_count;
  void *memory; /* of the caller's, or NULL */
  size_t memory_bytes;
} cn_request_;

typedef struct cn_plan_ {
  cn_network *net;
  int max_count, threads, training;
  int backward; /* it runs backward too: in training, or for gradients of inputs */
  int gradients;
  cn_parallel parallel;
  cn_math math;
  cn_step_ *steps;
  int step_count;
  int slice_steps, slice_images; /* the first steps, or 0; images of a slice, or max_count */
  int *lists;                    /* inputs and writes_first of all steps */
  int *used, *reader, *step_of;  /* of nodes, see cn_find_readers_; the step with its value */
  cn_buffer_ *buffers;
  int *order; /* of buffers */
  int buffer_count;
  cn_head_ *heads;
  int head_count, output_count, input_count;
  const float **inputs; /* the caller's arrays while it runs */
  size_t workspace_bytes, arena_bytes;
  char *arena, *workspaces;
  char *tables, *block; /* what it lies in: tables first, then all else */
  size_t tables_bytes, block_bytes;
  char *callers; /* what is left of the caller's memory, or NULL */
  size_t callers_bytes;
  int packed_version; /* of the network, as its weights were packed */
} cn_plan_;

#define CN_BUFFERS_PER_STEP_ 10

/* Images that steps run for, and who runs them. */
typedef struct cn_slice_ {
  int first, count; /* images of the batch */
  char *workspace;  /* of the thread that does it alone; NULL: all threads do */
} cn_slice_;

/* ---- a step's work on threads ---- */

typedef void (*cn_task_)(void *context, int unit, char *workspace);

/* Subnormal numbers are slow on many processors: inside a task they count as zero. */
static unsigned cn_flush_subnormals_(void) {
#if defined(CN_SSE_)
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040u); /* FTZ and DAZ */
  return before;
#elif defined(CN_READ_FPCR_)
  size_t before;
  CN_READ_FPCR_(before);
  CN_WRITE_FPCR_(before | (size_t)1 << 24);
  return (unsigned)before;
#else
  return 0;
#endif
}

static void cn_restore_subnormals_(unsigned before) {
#if defined(CN_SSE_)
  _mm_setcsr(before);
#elif defined(CN_READ_FPCR_)
  CN_WRITE_FPCR_((size_t)before);
#else
  (void)before;
#endif
}

/* What a unit of a plan's work needs. */
typedef struct cn_work_ {
  const cn_plan_ *plan;
  cn_task_ task;
  void *context;
} cn_work_;

static void cn_work_unit_(void *context, int unit, int thread) {
  const cn_work_ *work = (const cn_work_ *)context;
  const unsigned mode = cn_flush_subnormals_();
  work->task(work->context, unit,
             work->plan->workspaces + (size_t)thread * work->plan->workspace_bytes);
  cn_restore_subnormals_(mode);
}

/* Runs all units, on the plan's threads, or alone in the workspace given. */
static void cn_parallel_(const cn_plan_ *plan, char *alone, int units, cn_task_ task,
                         void *context) {
  cn_work_ work;
  int unit;
  work.plan = plan, work.task = task, work.context = context;
  if (!alone && plan->threads > 1 && units > 1)
    cn_parallel_for(&plan->parallel, plan->threads, units, cn_work_unit_, &work);
  else
    for (unit = 0; unit < units; unit++) task(context, unit, alone ? alone : plan->workspaces);
}

/* ---- steps and buffers of a plan ---- */

static int cn_new_buffer_(cn_plan_ *plan, size_t bytes, int first, int last) {
  cn_buffer_ *buffer = &plan->buffers[plan->buffer_count];
  buffer->bytes = cn_align_bytes_(bytes);
  buffer->first = first, buffer->last = last;
  return plan->buffer_count++;
}

static float *cn_floats_(const cn_plan_ *plan, int buffer) {
  return buffer < 0 ? NULL : (float *)(void *)(plan->arena + plan->buffers[buffer].offset);
}

/* Where a slice begins in a buffer of so many bytes per image. */
static void *cn_slice_bytes_(const cn_plan_ *plan, const cn_slice_ *slice, int buffer,
                             size_t bytes) {
  const cn_buffer_ *b = plan->buffers + cn_max_(buffer, 0);
  if (buffer < 0) return NULL;
  if (b->sliced) return (slice->workspace ? slice->workspace : plan->workspaces) + b->offset;
  return plan->arena + b->offset + (size_t)slice->first * bytes;
}

static float *cn_slice_floats_(const cn_plan_ *plan, const cn_slice_ *slice, int buffer,
                               cn_shape image) {
  return (float *)cn_slice_bytes_(plan, slice, buffer, cn_values_(image) * sizeof(float));
}

/* Whether a softmax or sigmoid only ends the graph: its loss or its output does what it says. */
static int cn_is_end_(const cn_network *net, int node) {
  return net->nodes[node].op == CN_OP_SOFTMAX ||
         (net->nodes[node].op == CN_OP_SIGMOID && cn_is_output_(net, node));
}

/* plan->used: nodes that outputs and kept nodes depend on, in training also those that an auxiliary
   head does. plan->reader: of each its only reader, -1 if there is none or several or if somebody
   outside wants its value. */
static void cn_find_readers_(cn_plan_ *plan, const cn_request_ *request) {
  const cn_network *net = plan->net;
  int *used = plan->used, *reader = plan->reader, i, j;
  for (i = 0; i < net->node_count; i++) {
    used[i] = cn_is_output_(net, i) || (plan->training && net->nodes[i].op == CN_OP_SOFTMAX);
    reader[i] = -1;
  }
  for (i = 0; i < request->keep_count; i++) used[request->keep[i]] = 1;
  for (i = net->node_count - 1; i >= 0; i--) {
    for (j = 0; used[i] && j < net->nodes[i].input_count; j++) {
      const int input = net->nodes[i].inputs[j];
      reader[input] = used[input] ? -1 : i;
      used[input] = 1;
    }
  }
  for (i = 0; i < request->keep_count; i++) reader[request->keep[i]] = -1;
}

static int cn_find_tensor_(const cn_network *net, int node, cn_role_ role) {
  int i;
  for (i = 0; i < net->tensor_count; i++)
    if (net->tensors[i].node == node && net->tensors[i].role == role) return i;
  return -1;
}

/* A 2x2 maximum pooling that a convolution can do on the way out. */
static int cn_pool_can_fuse_(const cn_node *node, cn_shape in) {
  const cn_pool2d pool = cn_node_pool_(node, in);
  const cn_window w = cn_window_filled_(pool.window);
  return node->op == CN_OP_MAXPOOL && w.height == 2 && w.width == 2 && w.stride_y == 2 &&
         w.stride_x == 2 && w.dilation_y == 1 && w.dilation_x == 1 && !w.pad_top && !w.pad_left &&
         !w.pad_bottom && !w.pad_right && (!w.ceil || (in.height % 2 == 0 && in.width % 2 == 0)) &&
         in.height > 1 && in.width > 1;
}

/* Takes the nodes behind a step's first one into it, as far as they fit. */
static void cn_fuse_(const cn_plan_ *plan, cn_step_ *step) {
  const cn_network *net = plan->net;
  const cn_op first_op = step->op;
  const int can_normalise = first_op == CN_OP_CONV && !plan->backward;
  while (step->rate == 0.0f && plan->reader[step->node] >= 0) {
    const int next = plan->reader[step->node];
    const cn_node *node = &net->nodes[next];
    if (node->op == CN_OP_RELU && !step->relu &&
        (first_op == CN_OP_CONV || first_op == CN_OP_BATCHNORM)) {
      step->relu = 1;
    } else if (node->op == CN_OP_BATCHNORM && can_normalise && step->norm < 0 && !step->relu &&
               !step->conv.pool) {
      step->norm = cn_find_tensor_(net, next, CN_NORM_SCALE_), step->eps = node->eps;
    } else if (first_op == CN_OP_CONV && !step->dense && !step->conv.pool &&
               cn_pool_can_fuse_(node, net->nodes[step->node].shape)) {
      step->conv.pool = 1;
    } else if (node->op == CN_OP_DROPOUT && plan->training &&
               (step->relu || first_op == CN_OP_RELU)) {
      step->rate = node->rate;
    } else {
      return;
    }
    step->node = next;
  }
}

/* Where few places share many filters, reading the transformed filters takes the time, and they
   take the memory: F(2x2) keeps 16 values for each 9 of a filter, F(4x4) 36. */
static cn_math cn_step_math_(const cn_plan_ *plan, cn_shape in, cn_shape out) {
  const int64_t places = (int64_t)plan->max_count * out.height * out.width,
                filters = (int64_t)in.channels * out.channels;
  if (plan->backward || plan->math == CN_MATH_DIRECT || places > 256 || filters < 65536)
    return plan->math;
  return CN_MATH_EXACT;
}

static void cn_build_step_(cn_plan_ *plan, int index, cn_step_ *step) {
  const cn_network *net = plan->net;
  const cn_node *node = &net->nodes[index];
  int i, j;
  step->op = node->op == CN_OP_DENSE ? CN_OP_CONV : node->op, step->dense = node->op == CN_OP_DENSE;
  step->node = index, step->input_count = node->input_count;
  step->weight = cn_find_tensor_(net, index, CN_WEIGHT_), step->bias = -1, step->norm = -1;
  if (step->weight >= 0) step->bias = cn_find_tensor_(net, index, CN_BIAS_ROLE_);
  if (node->op == CN_OP_BATCHNORM) step->norm = cn_find_tensor_(net, index, CN_NORM_SCALE_);
  step->eps = node->eps, step->momentum = node->momentum, step->factor = node->factor;
  step->rate = node->op == CN_OP_DROPOUT ? node->rate : 0.0f;
  if (node->op == CN_OP_INPUT) {
    step->in = node->shape, step->source = plan->input_count++;
    step->wants_gradient = plan->gradients;
  } else {
    step->in = net->nodes[node->inputs[0]].shape;
  }
  if (step->op == CN_OP_CONV) step->conv = cn_node_conv_(node, step->in);
  step->conv.math = cn_step_math_(plan, step->in, node->shape);
  if (cn_is_pool_(node->op) || node->op == CN_OP_GLOBALMEAN || node->op == CN_OP_ADAPTIVEMEAN)
    step->pool = cn_node_pool_(node, step->in);
  for (i = 0; i < node->input_count; i++) step->inputs[i] = plan->step_of[node->inputs[i]];
  if (node->op != CN_OP_DROPOUT && node->op != CN_OP_INPUT) cn_fuse_(plan, step);
  step->conv.relu = step->relu;
  step->out = net->nodes[step->node].shape;
  for (i = 0; plan->training && i < net->tensor_count; i++)
    step->trains |= net->tensors[i].node == index && cn_is_trained_(&net->tensors[i]);
  for (j = 0; j < step->input_count; j++)
    step->wants_gradient |= plan->steps[step->inputs[j]].wants_gradient;
  step->wants_gradient |= step->trains;
  step->value = step->gradient = step->argmax = step->packed = step->packed_backward =
      step->partial = -1;
  step->folded = step->saved = step->sums = step->spill = -1;
}

/* A head where node `index` ends the graph. */
static cn_status cn_add_head_(cn_plan_ *plan, int index, cn_error *error) {
  const cn_network *net = plan->net;
  const cn_node *node = &net->nodes[index];
  cn_head_ *head = &plan->heads[plan->head_count];
  int i;
  head->node = index, head->step = plan->step_of[index], head->op = node->op;
  head->auxiliary = !cn_is_output_(net, index);
  head->output = head->auxiliary ? -1 : plan->output_count++;
  head->weight = node->output_weight > 0.0f  ? node->output_weight
                 : node->op == CN_OP_SOFTMAX ? node->loss_weight
                                             : 1.0f;
  if (plan->steps[head->step].op == CN_OP_INPUT)
    return cn_fail_(error, CN_ERROR_SHAPE, "%s: the network has nothing to compute", node->name);
  for (i = 0; plan->backward && i < plan->head_count; i++)
    if (plan->heads[i].step == head->step)
      return cn_fail_(error, CN_ERROR_SHAPE,
                      "%.90s and %.90s end the graph at the same values: they can have one loss",
                      net->nodes[plan->heads[i].node].name, node->name);
  plan->steps[head->step].ends = 1;
  plan->head_count++;
  return CN_OK;
}

static cn_status cn_build_steps_(cn_plan_ *plan, const cn_request_ *request, cn_error *error) {
  const cn_network *net = plan->net;
  const int n = net->node_count;
  int *list = plan->lists, *step_of = plan->step_of, i;
  cn_find_readers_(plan, request);
  for (i = 0; i < n; i++) step_of[i] = -1;
  for (i = 0; i < n; i++) {
    const cn_node *node = &net->nodes[i];
    if (!plan->used[i]) {
      plan->input_count += node->op == CN_OP_INPUT;
      continue;
    }
    if (step_of[i] < 0 && (cn_is_end_(net, i) || (node->op == CN_OP_DROPOUT && !plan->training))) {
      step_of[i] = step_of[node->inputs[0]]; /* nothing to run */
    } else if (step_of[i] < 0) {
      cn_step_ *step = &plan->steps[plan->step_count];
      int fused = i;
      step->inputs = list, step->writes_first = list + node->input_count,
      list += 2 * node->input_count;
      cn_build_step_(plan, i, step);
      for (; fused != step->node; fused = plan->reader[fused]) step_of[fused] = plan->step_count;
      step_of[fused] = plan->step_count++;
    }
    if ((cn_is_output_(net, i) || node->op == CN_OP_SOFTMAX) && cn_add_head_(plan, i, error))
      return CN_ERROR_SHAPE;
  }
  for (i = 0; i < plan->head_count; i++)
    if (plan->heads[i].auxiliary) plan->heads[i].output = plan->output_count - 1;
  for (i = 0; i < request->keep_count; i++) plan->steps[step_of[request->keep[i]]].kept = 1;
  return CN_OK;
}

static cn_conv2d cn_step_conv_(const cn_step_ *step, int count) {
  cn_conv2d conv = step->conv;
  if (step->dense)
    conv.in.width = count * step->in.count;
  else
    conv.in.count = count;
  return conv;
}

static void cn_need_bytes_(cn_plan_ *plan, size_t bytes) {
  bytes = cn_align_bytes_(bytes);
  if (bytes > plan->workspace_bytes) plan->workspace_bytes = bytes;
}

static void cn_need_workspace_(cn_plan_ *plan, const cn_step_ *step, cn_pass pass) {
  const cn_conv2d most = cn_step_conv_(step, plan->max_count), least = cn_step_conv_(step, 1);
  cn_need_bytes_(plan, cn_conv2d_workspace(&most, pass));
  cn_need_bytes_(plan, cn_conv2d_workspace(&least, pass));
  if (step - plan->steps < plan->slice_steps) {
    cn_conv2d slice = cn_step_conv_(step, plan->slice_images);
    slice.alone = 1;
    cn_need_bytes_(plan, cn_conv2d_workspace(&slice, pass));
  }
}

#define CN_SLICE_IMAGES_ 6
#define CN_LEAST_SLICES_ 8         /* of the largest batch: for threads to share */
#define CN_SLICE_MAP_FLOATS_ 32768 /* of a step's (first) input and output for an image */
#define CN_SLICE_WEIGHTS_ 65536    /* they are read anew for each slice */

/* Whether a step may take its images in slices: what it does with one depends on no other, and
   little is read that does not belong to it. Dropout numbers the values of a whole batch. */
static int cn_step_slices_(const cn_plan_ *plan, const cn_step_ *step) {
  if (step->op == CN_OP_INPUT) return 1;
  if (step->dense || step->op == CN_OP_BATCHNORM || step->rate > 0.0f) return 0;
  if (cn_values_(step->in) + cn_values_(step->out) > CN_SLICE_MAP_FLOATS_) return 0;
  if (step->op != CN_OP_CONV) return 1;
  if (cn_conv2d_weight_count(&step->conv) > CN_SLICE_WEIGHTS_) return 0;
  return !plan->training || !step->trains || cn_weights_in_slices_(&step->conv);
}

/* How many steps take slices. What a head reads is read as a whole, and so are inputs'
   gradients. */
static void cn_plan_slices_(cn_plan_ *plan) {
  int steps = 0;
  while (!plan->steps[steps].ends && cn_step_slices_(plan, &plan->steps[steps])) steps++;
  plan->slice_steps = 0, plan->slice_images = plan->max_count;
  if (steps < 3 || plan->gradients || plan->max_count < CN_LEAST_SLICES_ * CN_SLICE_IMAGES_) return;
  plan->slice_steps = steps, plan->slice_images = CN_SLICE_IMAGES_;
}

/* Lengthens the life of a step's output to the moment that reads it. */
static void cn_keep_value_(cn_plan_ *plan, int step, int moment) {
  cn_buffer_ *buffer = plan->buffers + cn_max_(plan->steps[step].value, 0);
  if (plan->steps[step].op != CN_OP_INPUT && moment > buffer->last) buffer->last = moment;
}

/* Bytes of so many images' values; too many where their number of units would pass an int. */
static size_t cn_value_bytes_(cn_shape shape, int images) {
  const size_t values = cn_times_(cn_values_(shape), (size_t)images);
  return values / CN_STATISTICS_ROWS >= INT_MAX
             ? SIZE_MAX
             : cn_times_(cn_plus_(values, CN_SLACK_), sizeof(float));
}

static void cn_plan_forward_(cn_plan_ *plan, int index) {
  cn_step_ *step = &plan->steps[index];
  const int end = 2 * plan->step_count + 1;
  int i;
  if (step->op == CN_OP_INPUT) return;
  step->value = cn_new_buffer_(plan, cn_value_bytes_(step->out, plan->max_count), index,
                               step->kept   ? end
                               : step->ends ? plan->step_count
                                            : index);
  for (i = 0; i < step->input_count; i++) cn_keep_value_(plan, step->inputs[i], index);
  if (step->op == CN_OP_CONV) {
    step->packed = cn_new_buffer_(
        plan, cn_times_(cn_conv2d_packed_count(&step->conv, CN_FORWARD), sizeof(float)), 0, end);
    if (step->norm >= 0)
      step->folded = cn_new_buffer_(plan, (size_t)step->conv.filters * sizeof(float), 0, end);
    cn_need_workspace_(plan, step, CN_FORWARD);
  }
  if (step->op == CN_OP_BATCHNORM) {
    const size_t rows =
        cn_product3_((size_t)plan->max_count, (size_t)step->out.height, (size_t)step->out.width);
    step->saved = cn_new_buffer_(
        plan, 2 * (size_t)step->out.channels * sizeof(float) + CN_ALIGNMENT_, index, end);
    step->sums = cn_new_buffer_(plan,
                                cn_times_((size_t)cn_batchnorm_parts(rows),
                                          2 * (size_t)step->out.channels * sizeof(double)),
                                0, end);
  }
}

static int cn_input_wants_gradient_(const cn_plan_ *plan, const cn_step_ *step, int i) {
  return plan->steps[step->inputs[i]].wants_gradient;
}

/* The gradients at heads: their first writer is the loss, which needs room for them also where
   nothing below it trains. */
static void cn_plan_losses_(cn_plan_ *plan) {
  int i;
  for (i = 0; i < plan->head_count; i++) {
    cn_step_ *step = &plan->steps[plan->heads[i].step];
    step->gradient = cn_new_buffer_(
        plan, cn_value_bytes_(step->out, plan->max_count), plan->step_count,
        step->wants_gradient ? 2 * plan->step_count - plan->heads[i].step : plan->step_count);
  }
}

/* A gradient that step `index` writes. */
static int cn_new_gradient_(cn_plan_ *plan, int index, cn_shape shape, int last) {
  const int sliced = index < plan->slice_steps,
            images = sliced ? plan->slice_images : plan->max_count;
  const int buffer =
      cn_new_buffer_(plan, cn_value_bytes_(shape, images), 2 * plan->step_count - index, last);
  plan->buffers[buffer].sliced = sliced;
  return buffer;
}

static void cn_plan_backward_(cn_plan_ *plan, int index) {
  cn_step_ *step = &plan->steps[index];
  const int moment = 2 * plan->step_count - index, end = 2 * plan->step_count + 1;
  cn_shape spilled = {0, 0, 0, 0}; /* the largest: inputs take turns */
  int i;
  if (!step->wants_gradient || step->op == CN_OP_INPUT) return;
  if (step->relu || step->op == CN_OP_RELU || step->op == CN_OP_SIGMOID || step->op == CN_OP_TANH)
    cn_keep_value_(plan, index, moment);
  if (step->conv.pool)
    step->argmax = cn_new_buffer_(
        plan, cn_plus_(cn_times_(cn_values_(step->out), (size_t)plan->max_count), CN_SLACK_), index,
        moment);
  if (step->op == CN_OP_CONV && step->trains) {
    const cn_conv2d conv = cn_step_conv_(step, plan->max_count);
    if (!cn_one_part_(&conv))
      step->partial = cn_new_buffer_(plan, cn_times_(cn_conv2d_partial_count(&conv), sizeof(float)),
                                     moment, moment);
    cn_need_workspace_(plan, step, CN_BACKWARD_WEIGHTS);
  }
  if (step->op == CN_OP_CONV && cn_input_wants_gradient_(plan, step, 0)) {
    step->packed_backward = cn_new_buffer_(
        plan, cn_times_(cn_conv2d_packed_count(&step->conv, CN_BACKWARD_INPUT), sizeof(float)), 0,
        end);
    cn_need_workspace_(plan, step, CN_BACKWARD_INPUT);
  }
  if ((step->op == CN_OP_CONV && step->trains) || step->op == CN_OP_BATCHNORM ||
      cn_is_pool_(step->op))
    cn_keep_value_(plan, step->inputs[0], moment);
  for (i = 0; i < step->input_count; i++) {
    cn_step_ *input = &plan->steps[step->inputs[i]];
    if (!input->wants_gradient) continue;
    step->writes_first[i] = input->gradient < 0;
    if (input->gradient < 0) /* an input's is read in the end */
      input->gradient =
          cn_new_gradient_(plan, index, input->out,
                           input->op == CN_OP_INPUT ? end : 2 * plan->step_count - step->inputs[i]);
    else if (cn_values_(input->out) > cn_values_(spilled))
      spilled = input->out;
  }
  if (cn_values_(spilled) > 0) step->spill = cn_new_gradient_(plan, index, spilled, moment);
}

/* In a predictor what only steps with slices read is one slice's. */
static void cn_slice_values_(cn_plan_ *plan) {
  int i;
  for (i = 0; i < plan->slice_steps; i++) {
    const cn_step_ *step = &plan->steps[i];
    cn_buffer_ *value = plan->buffers + cn_max_(step->value, 0);
    if (step->op == CN_OP_INPUT || value->last >= plan->slice_steps) continue;
    value->sliced = 1;
    value->bytes = cn_value_bytes_(step->out, plan->slice_images);
  }
}

/* Steps with slices run at one moment, forward and backward, as far as the rest can see. What is
   one slice's gets a place in the workspaces. */
static void cn_place_slices_(cn_plan_ *plan) {
  const int last = plan->slice_steps - 1, end = 2 * plan->step_count;
  int i;
  for (i = 0; last > 0 && i < plan->buffer_count; i++) {
    cn_buffer_ *buffer = &plan->buffers[i];
    if (buffer->sliced) {
      buffer->offset = plan->workspace_bytes;
      cn_need_bytes_(plan, cn_plus_(plan->workspace_bytes, buffer->bytes));
    }
    if (buffer->first <= last) buffer->first = 0;
    if (buffer->last < last) buffer->last = last;
    if (buffer->first > end - last) buffer->first = end - last;
    if (buffer->last >= end - last && buffer->last < end) buffer->last = end;
  }
}

static int cn_lives_meet_(const cn_buffer_ *a, const cn_buffer_ *b) {
  return a->first <= b->last && b->first <= a->last;
}

/* Largest first, each at the lowest place that is free during its life. */
static void cn_place_buffers_(cn_plan_ *plan) {
  int *order = plan->order, i, j, n = 0;
  for (i = 0; i < plan->buffer_count; i++)
    if (!plan->buffers[i].sliced) order[n++] = i;
  for (i = 1; i < n; i++) { /* insertion sort, stable */
    const int moving = order[i];
    for (j = i; j > 0 && plan->buffers[order[j - 1]].bytes < plan->buffers[moving].bytes; j--)
      order[j] = order[j - 1];
    order[j] = moving;
  }
  for (i = 0; i < n; i++) {
    cn_buffer_ *buffer = &plan->buffers[order[i]];
    size_t offset = 0;
    for (j = 0; j < i; j++) { /* every collision moves it up, then all are looked at again */
      const cn_buffer_ *other = &plan->buffers[order[j]];
      if (cn_lives_meet_(buffer, other) && offset < other->offset + other->bytes &&
          other->offset < offset + buffer->bytes)
        offset = other->offset + other->bytes, j = -1;
    }
    buffer->offset = offset;
    if (offset + buffer->bytes > plan->arena_bytes) plan->arena_bytes = offset + buffer->bytes;
  }
}

/* ---- memory of a plan ----
   It lies in two blocks: the tables, with the predictor or trainer that begins with it, and, once
   these say how large it is, all else. The caller's memory holds one behind the other. */

/* A block in aligned pieces; with base NULL they are only counted. */
typedef struct cn_block_ {
  char *base;
  size_t used;
} cn_block_;

static void *cn_carve_(cn_block_ *block, size_t count, size_t item_bytes) {
  void *piece = block->base ? block->base + block->used : NULL;
  block->used = cn_align_bytes_(cn_plus_(block->used, cn_times_(count, item_bytes)));
  return piece;
}

static void cn_lay_out_tables_(cn_plan_ *plan, const cn_network *net, cn_block_ *block) {
  const size_t n = (size_t)net->node_count;
  size_t inputs = 0, i;
  for (i = 0; i < n; i++) inputs += (size_t)net->nodes[i].input_count;
  plan->steps = (cn_step_ *)cn_carve_(block, n, sizeof *plan->steps);
  plan->buffers = (cn_buffer_ *)cn_carve_(block, n * CN_BUFFERS_PER_STEP_, sizeof *plan->buffers);
  plan->order = (int *)cn_carve_(block, n * CN_BUFFERS_PER_STEP_, sizeof *plan->order);
  plan->heads = (cn_head_ *)cn_carve_(block, n, sizeof *plan->heads);
  plan->inputs = (const float **)cn_carve_(block, n, sizeof *plan->inputs);
  plan->lists = (int *)cn_carve_(block, 2 * inputs, sizeof *plan->lists);
  plan->used = (int *)cn_carve_(block, n, sizeof *plan->used);
  plan->reader = (int *)cn_carve_(block, n, sizeof *plan->reader);
  plan->step_of = (int *)cn_carve_(block, n, sizeof *plan->step_of);
}

static void cn_lay_out_arena_(cn_plan_ *plan, cn_block_ *block) {
  plan->arena = (char *)cn_carve_(block, 1, plan->arena_bytes);
  plan->workspaces = (char *)cn_carve_(block, (size_t)plan->threads, plan->workspace_bytes);
}

/* Zeroed, aligned memory for a block. NULL with an error. */
static char *cn_plan_memory_(cn_plan_ *plan, size_t bytes, cn_error *error) {
  char *memory = plan->callers;
  if (!memory) {
    memory = (char *)cn_allocate_(&plan->net->allocator, bytes);
    if (!memory) cn_fail_(error, CN_ERROR_MEMORY, "no memory for a plan of %zu bytes", bytes);
    return memory;
  }
  if (bytes > plan->callers_bytes) {
    cn_fail_(error, CN_ERROR_MEMORY, "the plan needs %zu bytes more than the memory it was given",
             bytes - plan->callers_bytes);
    return NULL;
  }
  memset(memory, 0, bytes);
  plan->callers += bytes, plan->callers_bytes -= bytes;
  return memory;
}

/* The second block; its size must be known. */
static cn_status cn_plan_take_block_(cn_plan_ *plan, size_t bytes, cn_error *error) {
  plan->block = cn_plan_memory_(plan, bytes, error);
  plan->block_bytes = bytes;
  return plan->block ? CN_OK : CN_ERROR_MEMORY;
}

static cn_status cn_fail_size_(const cn_plan_ *plan, cn_error *error) {
  return cn_fail_(error, CN_ERROR_MEMORY, "a plan for %d images passes what memory can be",
                  plan->max_count);
}

/* Bytes of memory of the caller's, wherever it begins; 0 with an error. */
static size_t cn_size_for_caller_(const cn_plan_ *plan, size_t block_bytes, cn_error *error) {
  const size_t bytes = cn_plus_(cn_plus_(plan->tables_bytes, block_bytes), CN_ALIGNMENT_);
  if (bytes <= SIZE_MAX / 2) return bytes;
  cn_fail_size_(plan, error);
  return 0;
}

static size_t cn_plan_bytes_(const cn_plan_ *plan) {
  return cn_plus_(plan->tables_bytes, plan->block_bytes);
}

/* Takes the tables along, and so what begins with the plan. */
static void cn_plan_free_(cn_plan_ *plan) {
  const cn_allocator *allocator = &plan->net->allocator;
  if (plan->callers) return;
  cn_release_(allocator, plan->block);
  cn_release_(allocator, plan->tables);
}

/* ---- building a plan ---- */

static cn_status cn_check_request_(const cn_network *net, const cn_request_ *request,
                                   cn_error *error) {
  int i;
  if (request->max_count < 1 || request->max_count > CN_MAX_DIMENSION)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "a batch of %d images is outside 1 .. %d",
                    request->max_count, CN_MAX_DIMENSION);
  if (net->node_count < 2)
    return cn_fail_(error, CN_ERROR_SHAPE, "the network needs an input and at least one more node");
  for (i = 0; i < request->keep_count; i++) {
    const int node = request->keep[i];
    if (node < 0 || node >= net->node_count)
      return cn_fail_(error, CN_ERROR_ARGUMENT, "node %d is to be kept, and does not exist", node);
    if (net->nodes[node].op == CN_OP_INPUT || cn_is_end_(net, node))
      return cn_fail_(
          error, CN_ERROR_ARGUMENT, "%.90s cannot be kept: it is an %s", net->nodes[node].name,
          net->nodes[node].op == CN_OP_INPUT ? "input" : "output, or an auxiliary head");
  }
  return CN_OK;
}

/* Fills the tables. */
static cn_status cn_plan_build_(cn_plan_ *plan, const cn_request_ *request, cn_error *error) {
  size_t total = 0;
  int i;
  plan->max_count = request->max_count, plan->parallel = request->parallel;
  plan->threads = cn_threads_of_(&request->parallel, request->threads);
  plan->packed_version = cn_atomic_load_(&plan->net->version) - 1; /* another: nothing is packed */
  plan->math = request->math, plan->training = request->training;
  plan->gradients = request->gradients, plan->backward = request->training || request->gradients;
  if (cn_build_steps_(plan, request, error)) return CN_ERROR_SHAPE;
  cn_plan_slices_(plan);
  for (i = 0; i < plan->step_count; i++) cn_plan_forward_(plan, i);
  if (plan->backward)
    cn_plan_losses_(plan);
  else
    cn_slice_values_(plan);
  for (i = plan->step_count - 1; plan->backward && i >= 0; i--) cn_plan_backward_(plan, i);
  cn_place_slices_(plan);
  for (i = 0; i < plan->buffer_count; i++) total = cn_plus_(total, plan->buffers[i].bytes);
  if (total > SIZE_MAX / 2 || plan->workspace_bytes > SIZE_MAX / 2)
    return cn_fail_size_(plan, error);
  cn_place_buffers_(plan);
  return CN_OK;
}

/* A predictor or trainer of so many bytes, which begins with its plan: zeroes, tables built,
   without the second block. NULL with an error. */
static cn_plan_ *cn_plan_open_(cn_network *net, size_t object_bytes, const cn_request_ *request,
                               cn_error *error) {
  cn_plan_ start, *plan;
  cn_block_ block = {NULL, 0};
  if (cn_check_request_(net, request, error)) return NULL;
  memset(&start, 0, sizeof start);
  start.net = net;
  if (request->memory) {
    const size_t skipped =
        (CN_ALIGNMENT_ - (uintptr_t)request->memory % CN_ALIGNMENT_) % CN_ALIGNMENT_;
    start.callers = (char *)request->memory + skipped;
    start.callers_bytes = request->memory_bytes - cn_min_size_(skipped, request->memory_bytes);
  }
  cn_carve_(&block, 1, object_bytes);
  cn_lay_out_tables_(&start, net, &block);
  start.tables_bytes = block.used;
  start.tables = cn_plan_memory_(&start, block.used, error);
  if (!start.tables) return NULL;
  block.base = start.tables, block.used = 0;
  plan = (cn_plan_ *)cn_carve_(&block, 1, object_bytes);
  cn_lay_out_tables_(&start, net, &block);
  *plan = start;
  if (cn_plan_build_(plan, request, error) == CN_OK) return plan;
  cn_plan_free_(plan);
  return NULL;
}

/* ---- running steps ---- */

typedef struct cn_run_ { /* what a task needs; each uses its share */
  const cn_plan_ *plan;
  const cn_step_ *step;
  char *alone; /* see cn_parallel_ */
  cn_conv2d conv;
  cn_pool2d pool;
  cn_pass pass;
  const float *x, *y, *dy, *packed, *bias;
  float *to;
  cn_batchnorm norm;
  float *dscale, *dshift; /* of norm */
  cn_parts_ parts;
  double *sums;
  uint8_t *argmax;
  size_t n, rows;           /* values; rows of one image */
  size_t x_pitch, to_pitch; /* values per row of x and to, where channels are copied */
  float factor, rate;
  uint64_t seed;
  int channels;
} cn_run_;

#define CN_CHUNK_ 16384 /* values per unit of element-wise work; a multiple of 4 */

static int cn_chunks_(size_t n) {
  return (int)((n + CN_CHUNK_ - 1) / CN_CHUNK_);
}
static size_t cn_chunk_size_(size_t n, int unit) {
  const size_t first = (size_t)unit * CN_CHUNK_;
  return n - first < CN_CHUNK_ ? n - first : CN_CHUNK_;
}

static float *cn_tensor_values_(const cn_network *net, int tensor) {
  return tensor < 0 ? NULL : net->values + net->tensors[tensor].offset;
}

/* Packs a convolution's weights with the batch norm behind it folded in; the folded bias stays in
   the plan. */
static void cn_pack_folded_(const cn_plan_ *plan, const cn_step_ *step) {
  const cn_network *net = plan->net;
  const float *bias = cn_tensor_values_(net, step->bias),
              *scale = cn_tensor_values_(net, step->norm);
  const float *shift = cn_tensor_values_(net, step->norm + 1),
              *mean = cn_tensor_values_(net, step->norm + 2);
  const float *variance = cn_tensor_values_(net, step->norm + 3);
  float *packed = cn_floats_(plan, step->packed), *folded_bias = cn_floats_(plan, step->folded);
  int filter;
  for (filter = 0; filter < step->conv.filters; filter++) /* factors until the weights are done */
    folded_bias[filter] =
        (float)((double)scale[filter] / sqrt((double)variance[filter] + (double)step->eps));
  cn_conv2d_pack(&step->conv, CN_FORWARD, cn_tensor_values_(net, step->weight), packed);
  cn_scale_packed_(&step->conv, folded_bias, packed);
  for (filter = 0; filter < step->conv.filters; filter++)
    folded_bias[filter] =
        ((bias ? bias[filter] : 0.0f) - mean[filter]) * folded_bias[filter] + shift[filter];
}

static const float *cn_step_bias_(const cn_plan_ *plan, const cn_step_ *step) {
  if (step->folded >= 0) return cn_floats_(plan, step->folded);
  return cn_tensor_values_(plan->net, step->bias);
}

/* Unit: a step, forward and backward in turn. */
static void cn_pack_task_(void *context, int unit, char *workspace) {
  const cn_plan_ *plan = ((cn_run_ *)context)->plan;
  const cn_step_ *step = &plan->steps[unit / 2];
  const float *weights = cn_tensor_values_(plan->net, step->weight);
  (void)workspace;
  if (step->op != CN_OP_CONV) return;
  if (unit % 2 == 0) {
    if (step->folded >= 0)
      cn_pack_folded_(plan, step);
    else
      cn_conv2d_pack(&step->conv, CN_FORWARD, weights, cn_floats_(plan, step->packed));
  } else if (step->packed_backward >= 0) {
    cn_conv2d_pack(&step->conv, CN_BACKWARD_INPUT, weights,
                   cn_floats_(plan, step->packed_backward));
  }
}

static void cn_pack_if_changed_(cn_plan_ *plan) {
  const int version = cn_atomic_load_(&plan->net->version);
  cn_run_ run;
  if (plan->packed_version == version) return;
  memset(&run, 0, sizeof run);
  run.plan = plan;
  cn_parallel_(plan, NULL, 2 * plan->step_count, cn_pack_task_, &run);
  plan->packed_version = version;
}

static void cn_conv_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  if (r->pass == CN_FORWARD) {
    cn_conv2d_forward(&r->conv, r->x, r->packed, r->bias, r->to, r->argmax, unit, unit + 1,
                      workspace);
  } else if (r->pass == CN_BACKWARD_INPUT) {
    cn_conv2d_backward_input(&r->conv, r->dy, r->argmax, r->packed, r->to, unit, unit + 1,
                             workspace);
  } else {
    const cn_geometry_ g = cn_geometry_of_(&r->conv);
    cn_backward_weights_unit_(&r->conv, &g, r->x, r->dy, r->argmax, &r->parts, unit, workspace);
  }
}

static void cn_pool_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  (void)workspace;
  if (r->pass == CN_FORWARD)
    cn_pool2d_forward(&r->pool, r->x, r->to, unit, unit + 1);
  else
    cn_pool2d_backward(&r->pool, r->x, r->dy, r->to, unit, unit + 1);
}

static void cn_dropout_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  const size_t first = (size_t)unit * CN_CHUNK_;
  (void)workspace;
  cn_dropout(r->x, r->to, first, first + cn_chunk_size_(r->n, unit), r->rate, r->seed);
}

static void cn_relu_mask_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  const size_t first = (size_t)unit * CN_CHUNK_;
  (void)workspace;
  cn_relu_backward(r->y + first, r->dy + first, r->factor, r->to + first,
                   cn_chunk_size_(r->n, unit));
}

static void cn_activation_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  const size_t first = (size_t)unit * CN_CHUNK_, n = cn_chunk_size_(r->n, unit);
  const int forward = r->pass == CN_FORWARD;
  (void)workspace;
  if (r->step->op == CN_OP_RELU) {
    if (forward)
      cn_relu_forward(r->x + first, r->to + first, n);
    else
      memcpy(r->to + first, r->dy + first, n * sizeof(float)); /* the mask was applied before */
  } else if (r->step->op == CN_OP_SIGMOID) {
    if (forward)
      cn_sigmoid_forward(r->x + first, r->to + first, n);
    else
      cn_sigmoid_backward(r->y + first, r->dy + first, r->to + first, n);
  } else {
    if (forward)
      cn_tanh_forward(r->x + first, r->to + first, n);
    else
      cn_tanh_backward(r->y + first, r->dy + first, r->to + first, n);
  }
}

static void cn_scale_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  const size_t first = (size_t)unit * CN_CHUNK_;
  (void)workspace;
  cn_scale(r->x + first, r->step->factor, r->to + first, cn_chunk_size_(r->n, unit));
}

static void cn_add_task_(void *context, int unit, char *workspace) { /* to = x + y, or x alone */
  const cn_run_ *r = (const cn_run_ *)context;
  const size_t first = (size_t)unit * CN_CHUNK_, n = cn_chunk_size_(r->n, unit);
  (void)workspace;
  if (r->y)
    cn_add(r->x + first, r->y + first, r->to + first, n);
  else
    memcpy(r->to + first, r->x + first, n * sizeof(float));
}

/* Statistics in parts, rows in the same parts. */
static void cn_norm_statistics_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  (void)workspace;
  if (r->pass == CN_FORWARD)
    cn_batchnorm_statistics(&r->norm, r->x, r->sums, unit, unit + 1);
  else
    cn_batchnorm_backward_sums(&r->norm, r->x, r->dy, r->sums, unit, unit + 1);
}

static void cn_norm_rows_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  const size_t first = (size_t)unit * CN_STATISTICS_ROWS,
               last = first + cn_part_rows_(r->norm.rows, unit);
  (void)workspace;
  if (r->pass == CN_FORWARD)
    cn_batchnorm_forward(&r->norm, r->x, r->to, first, last);
  else
    cn_batchnorm_backward(&r->norm, r->x, r->dy, r->dscale, r->dshift, r->to, first, last);
}

/* What a step's batch norm is for so many images. Its own mean and deviation stand in `saved`. */
static cn_batchnorm cn_step_norm_(const cn_plan_ *plan, const cn_step_ *step, int count) {
  const cn_network *net = plan->net;
  cn_batchnorm norm;
  norm.rows = (size_t)count * (size_t)step->out.height * (size_t)step->out.width;
  norm.channels = step->out.channels;
  norm.scale = cn_tensor_values_(net, step->norm);
  norm.shift = cn_tensor_values_(net, step->norm + 1);
  norm.mean = cn_floats_(plan, step->saved), norm.inverse_deviation = norm.mean + norm.channels;
  norm.running_mean = cn_tensor_values_(net, step->norm + 2);
  norm.running_variance = cn_tensor_values_(net, step->norm + 3);
  norm.eps = step->eps, norm.momentum = step->momentum;
  norm.relu = step->relu;
  norm.frozen = !step->trains; /* in inference, and in training when the node is frozen */
  return norm;
}

static void cn_norm_forward_(const cn_plan_ *plan, const cn_step_ *step, cn_run_ *run, int count) {
  const cn_batchnorm norm = run->norm = cn_step_norm_(plan, step, count);
  const int parts = cn_batchnorm_parts(norm.rows);
  int c;
  if (norm.frozen) {
    for (c = 0; c < norm.channels; c++) {
      norm.mean[c] = norm.running_mean[c];
      norm.inverse_deviation[c] =
          (float)(1.0 / sqrt((double)norm.running_variance[c] + (double)norm.eps));
    }
  } else {
    run->sums = (double *)(void *)cn_floats_(plan, step->sums);
    cn_parallel_(plan, NULL, parts, cn_norm_statistics_task_, run);
    cn_batchnorm_finish(&norm, run->sums);
  }
  cn_parallel_(plan, NULL, parts, cn_norm_rows_task_, run);
}

static const float *cn_step_input_(const cn_plan_ *plan, const cn_step_ *step, int i,
                                   const cn_slice_ *slice) {
  const cn_step_ *input = &plan->steps[step->inputs[i]];
  if (input->op == CN_OP_INPUT)
    return plan->inputs[input->source] + (size_t)slice->first * cn_values_(input->out);
  return cn_slice_floats_(plan, slice, input->value, input->out);
}

/* Copies one input's channels beside the others, or their gradient back. */
static void cn_copy_channels_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  const size_t first = (size_t)unit * r->rows;
  (void)workspace;
  cn_copy_channels(r->x + first * r->x_pitch, r->x_pitch, r->to + first * r->to_pitch, r->to_pitch,
                   r->rows, (size_t)r->channels);
}

static int cn_input_channels_(const cn_plan_ *plan, const cn_step_ *step, int i) {
  return plan->steps[step->inputs[i]].out.channels;
}

static void cn_concat_(const cn_plan_ *plan, const cn_step_ *step, cn_run_ *run,
                       const cn_slice_ *slice) {
  int i;
  run->rows = (size_t)step->out.height * (size_t)step->out.width; /* of one image, the unit */
  run->to_pitch = (size_t)step->out.channels;
  for (i = 0; i < step->input_count; i++) {
    run->x = cn_step_input_(plan, step, i, slice);
    run->channels = cn_input_channels_(plan, step, i), run->x_pitch = (size_t)run->channels;
    cn_parallel_(plan, run->alone, slice->count, cn_copy_channels_task_, run);
    run->to += run->channels;
  }
}

static cn_run_ cn_run_of_(const cn_plan_ *plan, const cn_step_ *step, cn_pass pass,
                          const cn_slice_ *slice) {
  cn_run_ run;
  memset(&run, 0, sizeof run);
  run.plan = plan, run.step = step, run.pass = pass, run.alone = slice->workspace;
  run.x = cn_step_input_(plan, step, 0, slice);
  run.y = cn_slice_floats_(plan, slice, step->value, step->out);
  run.dy = cn_slice_floats_(plan, slice, step->gradient, step->out);
  run.argmax = (uint8_t *)cn_slice_bytes_(plan, slice, step->argmax, cn_values_(step->out));
  run.n = cn_values_(step->out) * (size_t)slice->count;
  run.conv = cn_step_conv_(step, slice->count), run.conv.alone = slice->workspace != NULL;
  run.pool = step->pool, run.pool.in.count = slice->count;
  run.rate = step->rate, run.factor = 1.0f / (1.0f - step->rate);
  return run;
}

/* Dropout differs from batch to batch and from step to step. */
static uint64_t cn_dropout_seed_(const cn_plan_ *plan, const cn_step_ *step, uint64_t batch_seed) {
  return cn_mix_(batch_seed, (uint64_t)(step - plan->steps - 1)); /* the first is an input */
}

static void cn_step_forward_(const cn_plan_ *plan, const cn_step_ *step, const cn_slice_ *slice,
                             uint64_t batch_seed) {
  cn_run_ run;
  int i;
  if (step->op == CN_OP_INPUT) return;
  run = cn_run_of_(plan, step, CN_FORWARD, slice);
  run.to = cn_slice_floats_(plan, slice, step->value, step->out);
  run.seed = cn_dropout_seed_(plan, step, batch_seed);
  switch (step->op) {
  case CN_OP_CONV:
    run.packed = cn_floats_(plan, step->packed), run.bias = cn_step_bias_(plan, step);
    cn_parallel_(plan, run.alone, cn_conv2d_units(&run.conv, CN_FORWARD), cn_conv_task_, &run);
    break;
  case CN_OP_BATCHNORM:
    cn_norm_forward_(plan, step, &run, slice->count);
    break;
  case CN_OP_RELU:
  case CN_OP_SIGMOID:
  case CN_OP_TANH:
    cn_parallel_(plan, run.alone, cn_chunks_(run.n), cn_activation_task_, &run);
    break;
  case CN_OP_SCALE:
    cn_parallel_(plan, run.alone, cn_chunks_(run.n), cn_scale_task_, &run);
    break;
  case CN_OP_ADD:
    run.y = NULL;
    for (i = cn_min_(1, step->input_count - 1); i < step->input_count; i++) {
      if (i > 0) run.y = cn_step_input_(plan, step, i, slice);
      cn_parallel_(plan, run.alone, cn_chunks_(run.n), cn_add_task_, &run);
      run.x = run.to;
    }
    break;
  case CN_OP_CONCAT:
    cn_concat_(plan, step, &run, slice);
    break;
  case CN_OP_DROPOUT:
    cn_parallel_(plan, run.alone, cn_chunks_(run.n), cn_dropout_task_, &run);
    return;
  default:
    cn_parallel_(plan, run.alone, slice->count, cn_pool_task_, &run);
    break;
  }
  if (step->rate > 0.0f) {
    run.x = run.to;
    cn_parallel_(plan, run.alone, cn_chunks_(run.n), cn_dropout_task_, &run);
  }
}

/* What a task needs that takes slices of a batch through the first steps. */
typedef struct cn_slices_run_ {
  const cn_plan_ *plan;
  float *gradients; /* backward, of the weights */
  cn_slice_ batch;
  int slices;
  uint64_t batch_seed;
} cn_slices_run_;

/* Slice `number` of so many equal ones, for one thread. */
static cn_slice_ cn_slice_of_(const cn_slice_ *batch, int number, int slices, char *workspace) {
  cn_slice_ slice = *batch;
  slice.first = batch->first + cn_cut_(batch->count, number, slices);
  slice.count = batch->first + cn_cut_(batch->count, number + 1, slices) - slice.first;
  slice.workspace = workspace;
  return slice;
}

static void cn_forward_slice_(void *context, int unit, char *workspace) {
  const cn_slices_run_ *r = (const cn_slices_run_ *)context;
  const cn_slice_ slice = cn_slice_of_(&r->batch, unit, r->slices, workspace);
  int i;
  for (i = 0; i < r->plan->slice_steps; i++)
    cn_step_forward_(r->plan, &r->plan->steps[i], &slice, r->batch_seed);
}

/* Fewer images than foreseen go in smaller slices, so that threads have something to share. */
static cn_slices_run_ cn_slices_run_of_(const cn_plan_ *plan, int count, uint64_t batch_seed) {
  cn_slices_run_ run;
  memset(&run, 0, sizeof run);
  run.plan = plan, run.batch_seed = batch_seed, run.batch.count = count;
  run.slices = cn_ceil_div_(count, plan->slice_images);
  if (run.slices > 1)
    run.slices = cn_max_(run.slices, cn_min_(CN_LEAST_SLICES_, cn_ceil_div_(count, 2)));
  return run;
}

/* Up to max_count images through all steps. A batch of one slice is shared by all threads. */
static void cn_forward_(const cn_plan_ *plan, int count, uint64_t batch_seed) {
  cn_slices_run_ run = cn_slices_run_of_(plan, count, batch_seed);
  int i = 0;
  if (run.slices > 1) {
    cn_parallel_(plan, NULL, run.slices, cn_forward_slice_, &run);
    i = plan->slice_steps;
  }
  for (; i < plan->step_count; i++) cn_step_forward_(plan, &plan->steps[i], &run.batch, batch_seed);
}

/* ---- running steps backward ---- */

/* A step's gradients for a slice of the batch. A part of the weights' gradient is summed slice by
   slice, of which `accumulate` says whether it is not the first. */
typedef struct cn_backward_ {
  const cn_plan_ *plan;
  float *gradients; /* of the network's values, as they lie; NULL: only inputs want gradients */
  cn_slice_ slice;
  int part, accumulate;
  uint64_t batch_seed;
} cn_backward_;

/* Where step writes the gradient of its input i: its place, or a spill to be added to it
   afterwards. */
static float *cn_input_gradient_(const cn_plan_ *plan, const cn_step_ *step, int i,
                                 const cn_slice_ *slice) {
  const cn_step_ *input = &plan->steps[step->inputs[i]];
  return cn_slice_floats_(plan, slice, step->writes_first[i] ? input->gradient : step->spill,
                          input->out);
}

static void cn_add_spill_(const cn_plan_ *plan, const cn_step_ *step, int i,
                          const cn_slice_ *slice) {
  const cn_step_ *input = &plan->steps[step->inputs[i]];
  cn_run_ run;
  if (step->writes_first[i]) return;
  memset(&run, 0, sizeof run);
  run.to = cn_slice_floats_(plan, slice, input->gradient, input->out), run.x = run.to;
  run.y = cn_slice_floats_(plan, slice, step->spill, input->out);
  run.n = cn_values_(input->out) * (size_t)slice->count;
  cn_parallel_(plan, slice->workspace, cn_chunks_(run.n), cn_add_task_, &run);
}

#define CN_SUM_UNITS_ 16

static void cn_sum_task_(void *context, int unit, char *workspace) {
  const cn_run_ *r = (const cn_run_ *)context;
  (void)workspace;
  cn_sum_parts_(&r->conv, r->parts.weights, r->to, unit, CN_SUM_UNITS_);
}

/* Where a step's weights' gradient is summed: in parts, or in its place. */
static cn_parts_ cn_gradient_parts_(const cn_backward_ *b, const cn_step_ *step,
                                    const cn_conv2d *conv) {
  const cn_tensor_ *tensors = b->plan->net->tensors;
  cn_parts_ parts;
  if (step->partial < 0) {
    parts.weights = b->gradients + tensors[step->weight].offset, parts.floats = 0;
    if (step->bias >= 0) parts.bias = b->gradients + tensors[step->bias].offset;
  } else {
    const cn_geometry_ g = cn_geometry_of_(conv);
    const cn_weight_split_ split = cn_weight_split_of_(conv, &g);
    parts = cn_parts_in_(&g, &split, cn_floats_(b->plan, step->partial));
  }
  if (step->bias < 0) parts.bias = NULL;
  return parts;
}

/* The parts of a whole batch become the gradient. */
static void cn_sum_gradient_(const cn_backward_ *b, const cn_step_ *step) {
  const cn_plan_ *plan = b->plan;
  const cn_tensor_ *tensors = plan->net->tensors;
  cn_run_ run;
  if (step->partial < 0) return;
  memset(&run, 0, sizeof run);
  run.conv = cn_step_conv_(step, b->slice.count);
  run.parts.weights = cn_floats_(plan, step->partial);
  run.to = b->gradients + tensors[step->weight].offset;
  cn_parallel_(plan, NULL, CN_SUM_UNITS_, cn_sum_task_, &run);
  if (step->bias >= 0)
    cn_sum_bias_(&run.conv, run.parts.weights, b->gradients + tensors[step->bias].offset);
}

static void cn_conv_backward_(const cn_backward_ *b, const cn_step_ *step, cn_run_ *run) {
  const cn_plan_ *plan = run->plan;
  if (step->trains) {
    run->pass = CN_BACKWARD_WEIGHTS;
    run->parts = cn_gradient_parts_(b, step, &run->conv);
    if (run->alone) {
      CN_ASSERT(step->partial >= 0); /* parts must not share their place */
      cn_weights_of_slice_(&run->conv, run->x, run->dy, run->argmax, b->part, b->accumulate,
                           &run->parts, run->alone);
    } else {
      cn_parallel_(plan, NULL, cn_conv2d_units(&run->conv, CN_BACKWARD_WEIGHTS), cn_conv_task_,
                   run);
      cn_sum_gradient_(b, step);
    }
  }
  if (step->packed_backward >= 0) {
    run->pass = CN_BACKWARD_INPUT, run->packed = cn_floats_(plan, step->packed_backward);
    run->to = cn_input_gradient_(plan, step, 0, &b->slice);
    cn_parallel_(plan, run->alone, cn_conv2d_units(&run->conv, CN_BACKWARD_INPUT), cn_conv_task_,
                 run);
  }
}

static void cn_norm_backward_(const cn_backward_ *b, const cn_step_ *step, cn_run_ *run) {
  const cn_plan_ *plan = run->plan;
  const cn_tensor_ *tensors = plan->net->tensors;
  int parts;
  run->norm = cn_step_norm_(plan, step, b->slice.count);
  parts = cn_batchnorm_parts(run->norm.rows);
  if (!run->norm.frozen) {
    run->sums = (double *)(void *)cn_floats_(plan, step->sums);
    run->dscale = b->gradients + tensors[step->norm].offset;
    run->dshift = b->gradients + tensors[step->norm + 1].offset;
    cn_parallel_(plan, NULL, parts, cn_norm_statistics_task_, run);
    cn_batchnorm_backward_finish(&run->norm, run->sums, run->dscale, run->dshift);
  }
  if (!cn_input_wants_gradient_(plan, step, 0)) return;
  run->to = cn_input_gradient_(plan, step, 0, &b->slice);
  cn_parallel_(plan, NULL, parts, cn_norm_rows_task_, run);
}

static void cn_join_backward_(const cn_step_ *step, cn_run_ *run, const cn_slice_ *slice) {
  const cn_plan_ *plan = run->plan;
  int i;
  run->rows = (size_t)step->out.height * (size_t)step->out.width;
  run->x = run->dy, run->x_pitch = (size_t)step->out.channels;
  for (i = 0; i < step->input_count; i++) {
    run->channels = cn_input_channels_(plan, step, i), run->to_pitch = (size_t)run->channels;
    if (cn_input_wants_gradient_(plan, step, i)) {
      run->to = cn_input_gradient_(plan, step, i, slice);
      cn_parallel_(plan, run->alone, slice->count, cn_copy_channels_task_, run);
      cn_add_spill_(plan, step, i, slice);
    }
    if (step->op == CN_OP_CONCAT) run->x += run->channels;
  }
}

static void cn_step_backward_(const cn_backward_ *b, const cn_step_ *step) {
  const cn_plan_ *plan = b->plan;
  cn_run_ run;
  if (!step->wants_gradient || step->op == CN_OP_INPUT) return;
  run = cn_run_of_(plan, step, CN_BACKWARD_INPUT, &b->slice);
  run.seed = cn_dropout_seed_(plan, step, b->batch_seed);
  if (step->relu ||
      step->op == CN_OP_RELU) { /* dropout behind ReLU left zeros too, so y > 0 says it all */
    run.to = cn_slice_floats_(plan, &b->slice, step->gradient, step->out);
    cn_parallel_(plan, run.alone, cn_chunks_(run.n), cn_relu_mask_task_, &run);
  }
  if (step->op == CN_OP_ADD || step->op == CN_OP_CONCAT) {
    cn_join_backward_(step, &run, &b->slice);
    return;
  }
  if (step->op == CN_OP_CONV) {
    cn_conv_backward_(b, step, &run);
  } else if (step->op == CN_OP_BATCHNORM) {
    cn_norm_backward_(b, step, &run);
  } else if (cn_input_wants_gradient_(plan, step, 0)) {
    run.to = cn_input_gradient_(plan, step, 0, &b->slice);
    if (step->op == CN_OP_DROPOUT) {
      run.x = run.dy;
      cn_parallel_(plan, run.alone, cn_chunks_(run.n), cn_dropout_task_, &run);
    } else if (step->op == CN_OP_RELU || step->op == CN_OP_SIGMOID || step->op == CN_OP_TANH) {
      cn_parallel_(plan, run.alone, cn_chunks_(run.n), cn_activation_task_, &run);
    } else if (step->op == CN_OP_SCALE) {
      run.x = run.dy;
      cn_parallel_(plan, run.alone, cn_chunks_(run.n), cn_scale_task_, &run);
    } else {
      cn_parallel_(plan, run.alone, b->slice.count, cn_pool_task_, &run);
    }
  }
  if (cn_input_wants_gradient_(plan, step, 0)) cn_add_spill_(plan, step, 0, &b->slice);
}

/* Unit: a part of the weights' gradients. */
static void cn_backward_part_(void *context, int part, char *workspace) {
  const cn_slices_run_ *r = (const cn_slices_run_ *)context;
  const cn_slice_ images =
      cn_slice_of_(&r->batch, part, cn_min_(r->batch.count, CN_PARTS_), workspace);
  const int slices = cn_ceil_div_(images.count, r->plan->slice_images);
  cn_backward_ backward;
  int slice, i;
  backward.plan = r->plan, backward.gradients = r->gradients;
  backward.batch_seed = r->batch_seed, backward.part = part;
  for (slice = 0; slice < slices; slice++) {
    backward.slice = cn_slice_of_(&images, slice, slices, workspace);
    backward.accumulate = slice > 0;
    for (i = r->plan->slice_steps - 1; i >= 0; i--)
      cn_step_backward_(&backward, &r->plan->steps[i]);
  }
}

/* From the gradients at the heads to all others. */
static void cn_run_backward_(const cn_plan_ *plan, float *gradients, int count,
                             uint64_t batch_seed) {
  cn_slices_run_ run = cn_slices_run_of_(plan, count, batch_seed);
  const int sliced = run.slices > 1 ? plan->slice_steps : 0;
  cn_backward_ backward;
  int i;
  memset(&backward, 0, sizeof backward);
  backward.plan = plan, backward.slice = run.batch, backward.batch_seed = batch_seed;
  backward.gradients = run.gradients = gradients;
  for (i = plan->step_count - 1; i >= sliced; i--) cn_step_backward_(&backward, &plan->steps[i]);
  if (sliced == 0) return;
  cn_parallel_(plan, NULL, cn_min_(count, CN_PARTS_), cn_backward_part_, &run);
  for (i = sliced - 1; i >= 0; i--)
    if (plan->steps[i].op == CN_OP_CONV && plan->steps[i].trains)
      cn_sum_gradient_(&backward, &plan->steps[i]);
}

/* ---- inference ---- */

struct cn_predictor {
  cn_plan_ plan;
  int logits;
};

static cn_predictor *cn_predictor_open_(cn_network *net, int max_count,
                                        const cn_predict_options *options, cn_error *error) {
  cn_request_ request;
  cn_predictor *predictor;
  memset(&request, 0, sizeof request);
  request.max_count = max_count;
  if (options) {
    request.threads = options->threads, request.parallel = options->parallel;
    request.math = options->math;
    request.gradients = options->gradients;
    request.keep = options->keep, request.keep_count = options->keep_count;
    request.memory = options->memory, request.memory_bytes = options->memory_bytes;
  }
  predictor = (cn_predictor *)(void *)cn_plan_open_(net, sizeof *predictor, &request, error);
  if (predictor) predictor->logits = options && options->logits;
  return predictor;
}

/* Hands the second block out; returns its size. With base NULL only that. */
static size_t cn_predictor_lay_out_(cn_predictor *predictor, char *base) {
  cn_block_ block;
  block.base = base, block.used = 0;
  cn_lay_out_arena_(&predictor->plan, &block);
  return block.used;
}

CN_API cn_predictor *cn_predictor_create(cn_network *net, int max_count,
                                         const cn_predict_options *options, cn_error *error) {
  cn_predictor *predictor = cn_predictor_open_(net, max_count, options, error);
  if (!predictor) return NULL;
  if (cn_plan_take_block_(&predictor->plan, cn_predictor_lay_out_(predictor, NULL), error)) {
    cn_plan_free_(&predictor->plan);
    return NULL;
  }
  cn_predictor_lay_out_(predictor, predictor->plan.block);
  cn_atomic_add_(&net->users, 1);
  return predictor;
}

CN_API size_t cn_predictor_size(cn_network *net, int max_count, const cn_predict_options *options,
                                cn_error *error) {
  cn_predict_options chosen;
  cn_predictor *predictor;
  size_t bytes;
  memset(&chosen, 0, sizeof chosen);
  if (options) chosen = *options;
  chosen.memory = NULL;
  predictor = cn_predictor_open_(net, max_count, &chosen, error);
  if (!predictor) return 0;
  bytes = cn_size_for_caller_(&predictor->plan, cn_predictor_lay_out_(predictor, NULL), error);
  cn_plan_free_(&predictor->plan);
  return bytes;
}

CN_API void cn_predictor_free(cn_predictor *predictor) {
  if (!predictor) return;
  cn_atomic_add_(&predictor->plan.net->users, -1);
  cn_plan_free_(&predictor->plan);
}

static const cn_head_ *cn_last_head_(const cn_plan_ *plan) {
  return &plan->heads[plan->head_count - 1];
}

CN_API int cn_predictor_outputs(const cn_predictor *predictor) {
  const cn_plan_ *plan = &predictor->plan;
  return (int)cn_values_(plan->steps[cn_last_head_(plan)->step].out);
}

CN_API size_t cn_predictor_bytes(const cn_predictor *predictor) {
  return cn_plan_bytes_(&predictor->plan);
}

/* What a head says of count images, into to. */
static void cn_write_output_(const cn_predictor *predictor, const cn_head_ *head, int count,
                             float *to) {
  const cn_plan_ *plan = &predictor->plan;
  const cn_step_ *step = &plan->steps[head->step];
  const size_t values = (size_t)count * cn_values_(step->out),
               channels = (size_t)step->out.channels;
  const float *from = cn_floats_(plan, step->value);
  if (head->op == CN_OP_SOFTMAX && !predictor->logits)
    cn_softmax(from, to, values / channels, step->out.channels);
  else if (head->op == CN_OP_SIGMOID && !predictor->logits)
    cn_sigmoid_forward(from, to, values);
  else
    memcpy(to, from, values * sizeof(float));
}

/* Images [first, first + count) of the caller's arrays through the network. */
static void cn_predict_some_(cn_predictor *predictor, const float *const *inputs, int first,
                             int count, float *const *outputs) {
  cn_plan_ *plan = &predictor->plan;
  int i;
  for (i = 0; i < plan->step_count; i++)
    if (plan->steps[i].op == CN_OP_INPUT)
      plan->inputs[plan->steps[i].source] =
          inputs[plan->steps[i].source] + (size_t)first * cn_values_(plan->steps[i].out);
  cn_forward_(plan, count, 0);
  for (i = 0; outputs && i < plan->head_count; i++) {
    const cn_head_ *head = &plan->heads[i];
    const size_t values = cn_values_(plan->steps[head->step].out);
    if (outputs[head->output])
      cn_write_output_(predictor, head, count, outputs[head->output] + (size_t)first * values);
  }
}

CN_API void cn_predict_all(cn_predictor *predictor, const float *const *inputs, int count,
                           float *const *outputs) {
  cn_plan_ *plan = &predictor->plan;
  const unsigned mode = cn_flush_subnormals_();
  int first;
  cn_pack_if_changed_(plan);
  for (first = 0; first < count; first += plan->max_count)
    cn_predict_some_(predictor, inputs, first, cn_min_(plan->max_count, count - first), outputs);
  cn_restore_subnormals_(mode);
}

CN_API void cn_predict(cn_predictor *predictor, const float *inputs, int count, float *outputs) {
  cn_plan_ *plan = &predictor->plan;
  const size_t values = (size_t)count * (size_t)cn_predictor_outputs(predictor);
  const unsigned mode = cn_flush_subnormals_();
  int first;
  size_t i;
  CN_ASSERT(plan->input_count == 1 && "a network of several inputs takes cn_predict_all");
  for (i = 0; plan->input_count > 1 && i < values; i++) outputs[i] = NAN;
  if (plan->input_count > 1) count = 0;
  cn_pack_if_changed_(plan);
  for (first = 0; first < count; first += plan->max_count) {
    const int n = cn_min_(plan->max_count, count - first);
    cn_predict_some_(predictor, &inputs, first, n, NULL);
    cn_write_output_(predictor, cn_last_head_(plan), n,
                     outputs + (size_t)first * (size_t)cn_predictor_outputs(predictor));
  }
  cn_restore_subnormals_(mode);
}

CN_API const float *cn_predictor_feature_map(const cn_predictor *predictor, int node) {
  const cn_plan_ *plan = &predictor->plan;
  const cn_network *net = plan->net;
  const int step =
      node < 0 || node >= net->node_count || cn_is_end_(net, node) ? -1 : plan->step_of[node];
  if (step < 0 || !plan->steps[step].kept) return NULL;
  /* another node's of the same step, but for dropout, which only passes on */
  if (plan->steps[step].node != node && net->nodes[node].op != CN_OP_DROPOUT) return NULL;
  return cn_floats_(plan, plan->steps[step].value);
}

/* ---- gradients of inputs ---- */

/* The derivative by a head's values, from that by its output: of one softmax p it is
   p (g - sum of g p), of a sigmoid s it is g s (1 - s). */
static void cn_start_gradient_(const cn_predictor *predictor, const cn_head_ *head, int count,
                               const float *by_output) {
  const cn_plan_ *plan = &predictor->plan;
  const cn_step_ *step = &plan->steps[head->step];
  const size_t values = (size_t)count * cn_values_(step->out),
               channels = (size_t)step->out.channels;
  float *gradient = cn_floats_(plan, step->gradient);
  size_t row, i;
  if (!by_output) {
    memset(gradient, 0, values * sizeof *gradient);
  } else if (predictor->logits || (head->op != CN_OP_SOFTMAX && head->op != CN_OP_SIGMOID)) {
    memcpy(gradient, by_output, values * sizeof *gradient);
  } else if (head->op == CN_OP_SIGMOID) {
    cn_write_output_(predictor, head, count, gradient);
    cn_sigmoid_backward(gradient, by_output, gradient, values);
  } else {
    cn_write_output_(predictor, head, count, gradient);
    for (row = 0; row < values; row += channels) {
      double mean = 0.0;
      for (i = row; i < row + channels; i++) mean += (double)gradient[i] * (double)by_output[i];
      for (i = row; i < row + channels; i++) gradient[i] *= by_output[i] - (float)mean;
    }
  }
}

CN_API cn_status cn_input_gradient(cn_predictor *predictor, const float *const *inputs, int count,
                                   const float *const *output_gradients, float *const *outputs,
                                   float *const *input_gradients, cn_error *error) {
  cn_plan_ *plan = &predictor->plan;
  unsigned mode;
  int first, i;
  if (!plan->gradients)
    return cn_fail_(error, CN_ERROR_ARGUMENT,
                    "the predictor was made without gradients = 1 in its options");
  mode = cn_flush_subnormals_();
  cn_pack_if_changed_(plan);
  for (first = 0; first < count; first += plan->max_count) {
    const int n = cn_min_(plan->max_count, count - first);
    cn_predict_some_(predictor, inputs, first, n, outputs);
    for (i = 0; i < plan->head_count; i++) {
      const cn_head_ *head = &plan->heads[i];
      const float *by_output = output_gradients[head->output];
      if (by_output) by_output += (size_t)first * cn_values_(plan->steps[head->step].out);
      cn_start_gradient_(predictor, head, n, by_output);
    }
    cn_run_backward_(plan, NULL, n, 0);
    for (i = 0; i < plan->step_count; i++) {
      const cn_step_ *step = &plan->steps[i];
      const size_t values = cn_values_(step->out);
      float *to = step->op == CN_OP_INPUT ? input_gradients[step->source] : NULL;
      if (to)
        memcpy(to + (size_t)first * values, cn_floats_(plan, step->gradient),
               (size_t)n * values * sizeof *to);
    }
  }
  cn_restore_subnormals_(mode);
  return CN_OK;
}

/* ==== layer 3: training ======================================================================= */

typedef struct cn_chunk_ { /* a run of one trained tensor, updated as a unit */
  int tensor;
  size_t begin, count;
} cn_chunk_;

#define CN_LOSS_ROWS_ 32 /* rows of the loss, and images of a batch's check, per unit */

struct cn_trainer {
  cn_plan_ plan;
  cn_training_options options;
  float *gradients, *first, *second; /* as the network's values */
  float *class_weights;              /* or NULL */
  float *saved_figures;              /* running figures, to go back to when a step fails */
  cn_chunk_ *chunks;
  int chunk_count;
  double *sums;        /* one per unit of loss or chunk, added in order */
  int *counts;         /* one per unit of loss or of the batch's check */
  cn_truth *truths;    /* of the batch, one per output */
  cn_metrics *metrics; /* one per output */
  int64_t step;
};

CN_API cn_training_options cn_training_defaults(void) {
  cn_training_options options;
  memset(&options, 0, sizeof options);
  options.learning_rate = 0.001f, options.beta1 = 0.9f, options.beta2 = 0.999f,
  options.epsilon = 1e-7f;
  options.gamma = 0.1f, options.seed = 1;
  return options;
}

CN_API float cn_learning_rate(const cn_training_options *o, int64_t step) {
  double rate = (double)o->learning_rate;
  if (step < 1) step = 1;
  if (step <= o->warmup_steps) return (float)(rate * (double)step / (double)o->warmup_steps);
  if (o->schedule == CN_SCHEDULE_STEP && o->decay_steps > 0)
    rate *= pow((double)o->gamma, (double)((step - 1) / o->decay_steps));
  if (o->schedule == CN_SCHEDULE_COSINE && o->decay_steps > o->warmup_steps) {
    const double warmup = (double)o->warmup_steps;
    const double done = ((double)step - warmup) / ((double)o->decay_steps - warmup);
    rate *= done >= 1.0 ? 0.0 : 0.5 * (1.0 + cos(3.14159265358979324 * done));
  }
  return (float)rate;
}

/* The options' rate, and what a schedule makes of it. */
static cn_status cn_check_rate_(float rate, cn_error *error) {
  if (cn_is_finite_((double)rate) && rate >= 0.0f && rate < 1e6f) return CN_OK;
  return cn_fail_value_(error, "learning rate", rate, "is outside [0, 1e6)");
}

static cn_status cn_check_options_(const cn_training_options *o, cn_error *error) {
  if (o->optimizer < CN_ADAM || o->optimizer > CN_ADAGRAD)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "unknown optimiser %d", (int)o->optimizer);
  if (cn_check_rate_(o->learning_rate, error)) return CN_ERROR_ARGUMENT;
  if (!(o->momentum >= 0.0f && o->momentum < 1.0f))
    return cn_fail_value_(error, "momentum", o->momentum, "is outside [0, 1)");
  if (!(o->beta1 >= 0.0f && o->beta1 < 1.0f))
    return cn_fail_value_(error, "beta1", o->beta1, "is outside [0, 1)");
  if (!(o->beta2 >= 0.0f && o->beta2 < 1.0f))
    return cn_fail_value_(error, "beta2", o->beta2, "is outside [0, 1)");
  if (!(o->epsilon >= FLT_MIN && o->epsilon < 1e6f)) /* below, it may count as 0 */
    return cn_fail_value_(error, "epsilon", o->epsilon, "is outside [1.18e-38, 1e6)");
  if (!(o->decay >= 0.0f && o->decay < 1e6f))
    return cn_fail_value_(error, "decay", o->decay, "is outside [0, 1e6)");
  if (!(o->l1 >= 0.0f && o->l1 < 1e6f))
    return cn_fail_value_(error, "l1", o->l1, "is outside [0, 1e6)");
  if (!(o->l2 >= 0.0f && o->l2 < 1e6f))
    return cn_fail_value_(error, "l2", o->l2, "is outside [0, 1e6)");
  if (!(o->clip_norm >= 0.0f && o->clip_norm < 1e12f))
    return cn_fail_value_(error, "clip_norm", o->clip_norm, "is outside [0, 1e12)");
  if (o->warmup_steps < 0 || o->decay_steps < 0)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "numbers of steps must not be negative");
  return CN_OK;
}

/* Cuts the trained tensors into chunks. Counts them when chunks is NULL. */
static int cn_cut_chunks_(const cn_network *net, cn_chunk_ *chunks) {
  int i, n = 0;
  for (i = 0; i < net->tensor_count; i++) {
    size_t begin;
    if (!cn_is_trained_(&net->tensors[i])) continue;
    for (begin = 0; begin < net->tensors[i].count; begin += CN_CHUNK_, n++) {
      if (!chunks) continue;
      chunks[n].tensor = i, chunks[n].begin = begin;
      chunks[n].count = cn_chunk_size_(net->tensors[i].count, (int)(begin / CN_CHUNK_));
    }
  }
  return n;
}

static size_t cn_figure_count_(const cn_network *net) {
  size_t count = 0;
  int i;
  for (i = 0; i < net->tensor_count; i++)
    count += net->tensors[i].role >= CN_RUNNING_MEAN_ ? net->tensors[i].count : 0;
  return count;
}

/* Copies the running figures out of the network, or back. */
static void cn_copy_figures_(const cn_trainer *trainer, int back) {
  const cn_network *net = trainer->plan.net;
  float *saved = trainer->saved_figures;
  int i;
  for (i = 0; i < net->tensor_count; i++) {
    const cn_tensor_ *t = &net->tensors[i];
    if (t->role < CN_RUNNING_MEAN_) continue;
    memcpy(back ? net->values + t->offset : saved, back ? saved : net->values + t->offset,
           t->count * sizeof(float));
    saved += t->count;
  }
}

/* Hands the second block out; returns its size. With base NULL only that. */
static size_t cn_trainer_lay_out_(cn_trainer *t, char *base) {
  cn_plan_ *plan = &t->plan;
  const cn_network *net = plan->net;
  const size_t values = net->value_count, chunks = (size_t)cn_cut_chunks_(net, NULL);
  const size_t units = chunks > (size_t)plan->max_count ? chunks : (size_t)plan->max_count;
  cn_block_ block;
  block.base = base, block.used = 0;
  cn_lay_out_arena_(plan, &block);
  t->gradients = (float *)cn_carve_(&block, values, sizeof *t->gradients);
  t->first = (float *)cn_carve_(&block, values, sizeof *t->first);
  t->second = (float *)cn_carve_(&block, values, sizeof *t->second);
  t->saved_figures = (float *)cn_carve_(&block, cn_figure_count_(net), sizeof(float));
  t->chunks = (cn_chunk_ *)cn_carve_(&block, chunks, sizeof *t->chunks);
  t->sums = (double *)cn_carve_(&block, units, sizeof *t->sums);
  t->counts = (int *)cn_carve_(&block, units, sizeof *t->counts);
  t->truths = (cn_truth *)cn_carve_(&block, (size_t)plan->output_count, sizeof *t->truths);
  t->metrics = (cn_metrics *)cn_carve_(&block, (size_t)plan->output_count, sizeof *t->metrics);
  if (t->options.class_weights)
    t->class_weights = (float *)cn_carve_(
        &block, (size_t)plan->steps[cn_last_head_(plan)->step].out.channels, sizeof(float));
  return block.used;
}

/* What the labels of a softmax are counted in; and auxiliary heads learn the last output's. */
static cn_status cn_check_heads_(const cn_plan_ *plan, cn_error *error) {
  const cn_head_ *last = cn_last_head_(plan);
  const cn_shape out = plan->steps[last->step].out;
  int i;
  for (i = 0; i < plan->head_count; i++) {
    const cn_head_ *head = &plan->heads[i];
    const cn_step_ *step = &plan->steps[head->step];
    if (head->op == CN_OP_SOFTMAX && (step->out.height != 1 || step->out.width != 1))
      return cn_fail_(error, CN_ERROR_SHAPE,
                      "%.90s: softmax for training needs one vector per image, not %dx%d",
                      plan->net->nodes[head->node].name, step->out.height, step->out.width);
    if (head->auxiliary && (last->op != CN_OP_SOFTMAX || cn_values_(step->out) != cn_values_(out)))
      return cn_fail_(
          error, CN_ERROR_SHAPE,
          "the auxiliary softmax behind %.90s needs a softmax of as many classes at the "
          "end of the network",
          plan->net->nodes[step->node].name);
  }
  return CN_OK;
}

/* Batch normalisation of one value a channel is its shift, whatever the value: that teaches nothing,
   and spoils the running variance. PyTorch refuses it too ("Expected more than 1 value per channel
   when training", torch.nn.functional.batch_norm). */
static cn_status cn_check_rows_(const cn_plan_ *plan, int count, cn_error *error) {
  int i;
  for (i = 0; i < plan->step_count; i++) {
    const cn_step_ *step = &plan->steps[i];
    if (step->op == CN_OP_BATCHNORM && step->trains &&
        (int64_t)count * step->out.height * step->out.width < 2)
      return cn_fail_(
          error, CN_ERROR_ARGUMENT,
          "%.60s, a batch normalisation, sees 1 value a channel in a batch of 1 image: it "
          "learns from 2 or more; give more images, or freeze it",
          plan->net->nodes[plan->net->tensors[step->norm].node].name);
  }
  return CN_OK;
}

static cn_trainer *cn_trainer_open_(cn_network *net, int max_count,
                                    const cn_training_options *options, cn_error *error) {
  cn_request_ request;
  cn_trainer *trainer;
  if (cn_check_options_(options, error)) return NULL;
  memset(&request, 0, sizeof request);
  request.max_count = max_count;
  request.threads = options->threads, request.parallel = options->parallel;
  request.math = options->math, request.training = 1;
  request.memory = options->memory, request.memory_bytes = options->memory_bytes;
  trainer = (cn_trainer *)(void *)cn_plan_open_(net, sizeof *trainer, &request, error);
  if (!trainer) return NULL;
  trainer->options = *options;
  if (cn_cut_chunks_(net, NULL) == 0)
    cn_fail_(error, CN_ERROR_ARGUMENT,
             "there is nothing to train: the network has no parameters that are not frozen");
  else if (cn_check_heads_(&trainer->plan, error) == CN_OK &&
           cn_check_rows_(&trainer->plan, max_count, error) == CN_OK)
    return trainer;
  cn_plan_free_(&trainer->plan);
  return NULL;
}

CN_API cn_trainer *cn_trainer_create(cn_network *net, int max_count,
                                     const cn_training_options *options, cn_error *error) {
  const cn_training_options standard = cn_training_defaults();
  cn_trainer *trainer = cn_trainer_open_(net, max_count, options ? options : &standard, error);
  if (!trainer) return NULL;
  if (cn_plan_take_block_(&trainer->plan, cn_trainer_lay_out_(trainer, NULL), error)) {
    cn_plan_free_(&trainer->plan);
    return NULL;
  }
  cn_trainer_lay_out_(trainer, trainer->plan.block);
  trainer->chunk_count = cn_cut_chunks_(net, trainer->chunks);
  if (trainer->class_weights)
    memcpy(trainer->class_weights, trainer->options.class_weights,
           (size_t)trainer->plan.steps[cn_last_head_(&trainer->plan)->step].out.channels *
               sizeof(float));
  trainer->options.class_weights = trainer->class_weights;
  cn_atomic_add_(&net->users, 1);
  return trainer;
}

CN_API size_t cn_trainer_size(cn_network *net, int max_count, const cn_training_options *options,
                              cn_error *error) {
  cn_training_options chosen = options ? *options : cn_training_defaults();
  cn_trainer *trainer;
  size_t bytes;
  chosen.memory = NULL;
  trainer = cn_trainer_open_(net, max_count, &chosen, error);
  if (!trainer) return 0;
  bytes = cn_size_for_caller_(&trainer->plan, cn_trainer_lay_out_(trainer, NULL), error);
  cn_plan_free_(&trainer->plan);
  return bytes;
}

CN_API void cn_trainer_free(cn_trainer *trainer) {
  if (!trainer) return;
  cn_atomic_add_(&trainer->plan.net->users, -1);
  cn_plan_free_(&trainer->plan);
}

CN_API int64_t cn_trainer_steps(const cn_trainer *trainer) {
  return trainer->step;
}
CN_API void cn_trainer_set_learning_rate(cn_trainer *trainer, float rate) {
  trainer->options.learning_rate = rate;
}
CN_API size_t cn_trainer_bytes(const cn_trainer *trainer) {
  return cn_plan_bytes_(&trainer->plan);
}

CN_API const float *cn_trainer_gradient(const cn_trainer *trainer, int parameter) {
  const cn_network *net = trainer->plan.net;
  if (parameter < 0 || parameter >= net->tensor_count || !cn_is_trained_(&net->tensors[parameter]))
    return NULL;
  return trainer->gradients + net->tensors[parameter].offset;
}

static cn_status cn_check_truth_(const cn_plan_ *plan, const cn_head_ *head, const cn_truth *truth,
                                 int count, cn_error *error) {
  const char *name = plan->net->nodes[head->node].name;
  const int classes = plan->steps[head->step].out.channels;
  int i;
  if (head->op != CN_OP_SOFTMAX) {
    if (truth->targets) return CN_OK;
    return cn_fail_(error, CN_ERROR_ARGUMENT, "the batch lacks targets for %.90s%s", name,
                    truth->labels ? ", which is no softmax: labels mean nothing to it" : "");
  }
  if (!truth->labels)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "the batch lacks labels for %.90s%s", name,
                    truth->targets ? ", a softmax: targets mean nothing to it" : "");
  for (i = 0; i < count; i++)
    if (truth->labels[i] < 0 || truth->labels[i] >= classes)
      return cn_fail_(error, CN_ERROR_ARGUMENT, "label %d of image %d is outside 0 .. %d",
                      truth->labels[i], i, classes - 1);
  return CN_OK;
}

/* The node whose input values or targets are not all finite in an image of the batch; -1: none. */
static int cn_spoilt_node_(const cn_trainer *trainer, int image) {
  const cn_plan_ *plan = &trainer->plan;
  int i;
  for (i = 0; i < plan->input_count; i++) {
    const int node = cn_network_input(plan->net, i);
    const size_t values = cn_values_(plan->net->nodes[node].shape);
    if (!cn_all_finite_(plan->inputs[i] + (size_t)image * values, values)) return node;
  }
  for (i = 0; i < plan->head_count; i++) {
    const cn_head_ *head = &plan->heads[i];
    const float *targets = trainer->truths[head->output].targets;
    const size_t values = cn_values_(plan->steps[head->step].out);
    if (head->op != CN_OP_SOFTMAX && !cn_all_finite_(targets + (size_t)image * values, values))
      return head->node;
  }
  return -1;
}

typedef struct cn_check_run_ {
  const cn_trainer *trainer;
  int count;
} cn_check_run_;

/* Leaves the unit's first image that has a value which is not finite, or -1. */
static void cn_check_images_task_(void *context, int unit, char *workspace) {
  const cn_check_run_ *r = (const cn_check_run_ *)context;
  const int end = cn_min_((unit + 1) * CN_LOSS_ROWS_, r->count);
  int image = unit * CN_LOSS_ROWS_;
  (void)workspace;
  while (image < end && cn_spoilt_node_(r->trainer, image) < 0) image++;
  r->trainer->counts[unit] = image < end ? image : -1;
}

/* Max pooling and ReLU would hide a value that is no number, but not from all weights. */
static cn_status cn_check_images_(const cn_trainer *trainer, int count, cn_error *error) {
  const cn_plan_ *plan = &trainer->plan;
  const int units = cn_ceil_div_(count, CN_LOSS_ROWS_);
  cn_check_run_ run;
  int unit = 0;
  run.trainer = trainer, run.count = count;
  cn_parallel_(plan, NULL, units, cn_check_images_task_, &run);
  while (unit < units && trainer->counts[unit] < 0) unit++;
  if (unit < units) {
    const int image = trainer->counts[unit];
    const cn_node *node = &plan->net->nodes[cn_spoilt_node_(trainer, image)];
    return cn_fail_(error, CN_ERROR_NUMERIC,
                    "image %d has a %s that is not a finite number, for %.90s", image,
                    node->op == CN_OP_INPUT ? "value" : "target", node->name);
  }
  return CN_OK;
}

/* Takes over what the batch points to and checks it. */
static cn_status cn_take_batch_(cn_trainer *trainer, const cn_batch *batch, cn_error *error) {
  cn_plan_ *plan = &trainer->plan;
  int i;
  if (batch->count < 1 || batch->count > plan->max_count)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "a batch of %d images is outside 1 .. %d",
                    batch->count, plan->max_count);
  if (cn_check_rows_(plan, batch->count, error)) return CN_ERROR_ARGUMENT;
  if (plan->input_count > 1 && !batch->all_inputs)
    return cn_fail_(error, CN_ERROR_ARGUMENT,
                    "the network has %d inputs: give them as the batch's all_inputs",
                    plan->input_count);
  if (plan->output_count > 1 && !batch->truths)
    return cn_fail_(error, CN_ERROR_ARGUMENT,
                    "the network has %d outputs: give what they learn as the batch's truths",
                    plan->output_count);
  for (i = 0; i < plan->input_count; i++) {
    plan->inputs[i] = batch->all_inputs ? batch->all_inputs[i] : batch->inputs;
    if (!plan->inputs[i])
      return cn_fail_(error, CN_ERROR_ARGUMENT, "the batch lacks inputs for %.90s",
                      plan->net->nodes[cn_network_input(plan->net, i)].name);
  }
  if (batch->truths)
    memcpy(trainer->truths, batch->truths, (size_t)plan->output_count * sizeof *trainer->truths);
  else
    trainer->truths->labels = batch->labels, trainer->truths->targets = batch->targets;
  for (i = 0; i < plan->head_count; i++) {
    const cn_head_ *head = &plan->heads[i];
    const cn_truth *truth = &trainer->truths[head->output];
    if (cn_check_truth_(plan, head, truth, batch->count, error)) return CN_ERROR_ARGUMENT;
  }
  return cn_check_images_(trainer, batch->count, error);
}

typedef struct cn_loss_run_ {
  const cn_trainer *trainer;
  const cn_head_ *head;
  cn_truth truth;
  int count;
  const float *logits, *class_weights;
  float *gradient;
  int values; /* per image */
  float scale;
} cn_loss_run_;

static int cn_count_correct_(const cn_loss_run_ *r, int begin, int end) {
  int row, i, correct = 0;
  for (row = begin; row < end; row++) {
    const float *y = r->logits + (size_t)row * (size_t)r->values;
    if (r->head->op == CN_OP_SOFTMAX) {
      int best = 0;
      for (i = 1; i < r->values; i++) best = y[i] > y[best] ? i : best;
      correct += best == r->truth.labels[row];
    } else if (r->head->op == CN_OP_SIGMOID) {
      const float *t = r->truth.targets + (size_t)row * (size_t)r->values;
      for (i = 0; i < r->values && (y[i] > 0.0f) == (t[i] > 0.5f); i++) {
      }
      correct += i == r->values;
    }
  }
  return correct;
}

static void cn_loss_task_(void *context, int unit, char *workspace) {
  const cn_loss_run_ *r = (const cn_loss_run_ *)context;
  const int begin = unit * CN_LOSS_ROWS_, end = cn_min_(begin + CN_LOSS_ROWS_, r->count);
  double *sum = &r->trainer->sums[unit];
  (void)workspace;
  r->trainer->counts[unit] = cn_count_correct_(r, begin, end);
  if (r->head->op == CN_OP_SOFTMAX)
    *sum = cn_softmax_loss(r->logits, r->truth.labels, r->class_weights, r->values, r->scale, NULL,
                           r->gradient, (size_t)begin, (size_t)end);
  else if (r->head->op == CN_OP_SIGMOID)
    *sum = cn_sigmoid_loss(r->logits, r->truth.targets, r->values, r->scale, NULL, r->gradient,
                           (size_t)begin, (size_t)end);
  else
    *sum = cn_squared_loss(r->logits, r->truth.targets, r->values, r->scale, r->gradient,
                           (size_t)begin, (size_t)end);
}

/* The losses of all heads by their weights; what is right is counted at the last one. */
static cn_metrics cn_loss_(cn_trainer *trainer, int count) {
  const cn_plan_ *plan = &trainer->plan;
  const int units = cn_ceil_div_(count, CN_LOSS_ROWS_);
  cn_metrics metrics = {0.0, 0};
  cn_loss_run_ run;
  int i, j;
  run.trainer = trainer, run.count = count;
  for (i = 0; i < plan->head_count; i++) {
    const cn_head_ *head = run.head = &plan->heads[i];
    const cn_step_ *step = &plan->steps[head->step];
    cn_metrics own = {0.0, 0};
    run.truth = trainer->truths[head->output];
    run.class_weights = head->output == plan->output_count - 1 ? trainer->class_weights : NULL;
    run.logits = cn_floats_(plan, step->value), run.gradient = cn_floats_(plan, step->gradient);
    run.values = (int)cn_values_(step->out), run.scale = head->weight / (float)count;
    cn_parallel_(plan, NULL, units, cn_loss_task_, &run);
    for (j = 0; j < units; j++) own.loss += trainer->sums[j], own.correct += trainer->counts[j];
    metrics.loss += (double)head->weight * own.loss;
    metrics.correct = own.correct;
    own.loss /= (double)count;
    if (!head->auxiliary) trainer->metrics[head->output] = own;
  }
  metrics.loss /= (double)count;
  return metrics;
}

CN_API cn_metrics cn_trainer_metrics(const cn_trainer *trainer, int output) {
  const cn_metrics none = {0.0, 0};
  return output < 0 || output >= trainer->plan.output_count ? none : trainer->metrics[output];
}

/* Refuses a step: `what` would spoil the network for good. */
static cn_status cn_fail_step_(const cn_trainer *trainer, const char *what, const char *tensor,
                               cn_error *error) {
  char rate[CN_FLOAT_TEXT_];
  cn_write_float_(cn_learning_rate(&trainer->options, trainer->step + 1), CN_MESSAGE_DIGITS_, rate);
  return cn_fail_(error, CN_ERROR_NUMERIC,
                  "%s%.110s is not a finite number at step %lld with learning rate %s", what,
                  tensor, (long long)trainer->step + 1, rate);
}

/* The heads' values, the loss and the running figures behind a forward pass. */
static cn_status cn_check_forward_(const cn_trainer *trainer, int count, double loss,
                                   cn_error *error) {
  const cn_plan_ *plan = &trainer->plan;
  const cn_network *net = plan->net;
  int i, finite = cn_is_finite_(loss);
  for (i = 0; i < plan->head_count && finite; i++) {
    const cn_step_ *step = &plan->steps[plan->heads[i].step];
    finite = cn_all_finite_(cn_floats_(plan, step->value), (size_t)count * cn_values_(step->out));
  }
  if (!finite) return cn_fail_step_(trainer, "the loss", "", error);
  for (i = 0; i < net->tensor_count; i++) {
    const cn_tensor_ *t = &net->tensors[i];
    if (t->role >= CN_RUNNING_MEAN_ && !cn_all_finite_(net->values + t->offset, t->count))
      return cn_fail_step_(trainer, "", t->name, error);
  }
  return CN_OK;
}

/* Forward and backward. Moves the running figures; saved_figures holds them as they were, and they
   are so again after an error. */
static cn_status cn_compute_gradients_(cn_trainer *trainer, const cn_batch *batch,
                                       cn_metrics *metrics, cn_error *error) {
  cn_plan_ *plan = &trainer->plan;
  const uint64_t batch_seed = cn_mix_(trainer->options.seed, (uint64_t)trainer->step);
  const unsigned mode = cn_flush_subnormals_();
  cn_status status = cn_take_batch_(trainer, batch, error);
  if (status == CN_OK) {
    cn_pack_if_changed_(plan);
    cn_copy_figures_(trainer, 0);
    cn_forward_(plan, batch->count, batch_seed);
    *metrics = cn_loss_(trainer, batch->count);
    status = cn_check_forward_(trainer, batch->count, metrics->loss, error);
    if (status == CN_OK)
      cn_run_backward_(plan, trainer->gradients, batch->count, batch_seed);
    else
      cn_copy_figures_(trainer, 1);
  }
  cn_restore_subnormals_(mode);
  return status;
}

/* ---- update ---- */

/* The bits of 2^48. Sums of squares of larger gradients, which optimisers keep, might become
   infinite; clipped ones are smaller. */
#define CN_TOO_LARGE_BITS_ 0x57800000u

typedef struct cn_update_run_ {
  const cn_trainer *trainer;
  cn_update update;
  uint32_t limit; /* bits of a gradient that may not be reached */
  double factor;  /* of the gradients, when their norm was too large */
} cn_update_run_;

/* Leaves a chunk's sum of squares, where somebody asks for the norm, or -1 if a gradient is at the
   limit. */
static void cn_norm_task_(void *context, int unit, char *workspace) {
  const cn_update_run_ *r = (const cn_update_run_ *)context;
  const cn_trainer *t = r->trainer;
  const cn_chunk_ *chunk = &t->chunks[unit];
  const float *g = t->gradients + t->plan.net->tensors[chunk->tensor].offset + chunk->begin;
  double sum = 0.0;
  size_t i;
  (void)workspace;
  if (!cn_current_()->all_below(g, chunk->count, r->limit))
    sum = -1.0;
  else if (t->options.clip_norm > 0.0f)
    for (i = 0; i < chunk->count; i++) sum += (double)g[i] * (double)g[i];
  t->sums[unit] = sum;
}

/* Looks at all gradients; their norm gives the run's factor. */
static cn_status cn_check_gradients_(cn_update_run_ *run, cn_error *error) {
  const cn_trainer *t = run->trainer;
  const double most = (double)t->options.clip_norm;
  double sum = 0.0;
  int i;
  cn_parallel_(&t->plan, NULL, t->chunk_count, cn_norm_task_, run);
  for (i = 0; i < t->chunk_count; i++) {
    if (t->sums[i] < 0.0)
      return cn_fail_step_(t, "the gradient of ", t->plan.net->tensors[t->chunks[i].tensor].name,
                           error);
    sum += t->sums[i];
  }
  if (sqrt(sum) > most && most > 0.0) run->factor = most / sqrt(sum);
  return CN_OK;
}

static void cn_update_task_(void *context, int unit, char *workspace) {
  const cn_update_run_ *r = (const cn_update_run_ *)context;
  const cn_trainer *t = r->trainer;
  const cn_network *net = t->plan.net;
  const cn_chunk_ *chunk = &t->chunks[unit];
  const cn_tensor_ *tensor = &net->tensors[chunk->tensor];
  const size_t at = tensor->offset + chunk->begin;
  float *g = t->gradients + at;
  cn_update update = r->update;
  size_t i;
  (void)workspace;
  if (tensor->role != CN_WEIGHT_) update.decay = update.l1 = update.l2 = 0.0f;
  update.learning_rate *= tensor->rate;
  if (r->factor < 1.0) /* in double: it may be smaller than a float can be */
    for (i = 0; i < chunk->count; i++) g[i] = (float)((double)g[i] * r->factor);
  cn_update_weights(&update, net->values + at, g, t->first + at, t->second + at, chunk->count);
}

static cn_update_run_ cn_update_run_of_(const cn_trainer *trainer) {
  const cn_training_options *o = &trainer->options;
  cn_update_run_ run;
  run.trainer = trainer, run.factor = 1.0;
  run.limit = o->clip_norm > 0.0f ? CN_INFINITE_BITS_ : CN_TOO_LARGE_BITS_;
  run.update.optimizer = o->optimizer, run.update.step = trainer->step + 1;
  run.update.learning_rate = cn_learning_rate(o, run.update.step);
  run.update.momentum = o->momentum, run.update.beta1 = o->beta1, run.update.beta2 = o->beta2;
  run.update.epsilon = o->epsilon, run.update.decay = o->decay, run.update.l1 = o->l1,
  run.update.l2 = o->l2;
  run.update.nesterov = o->nesterov;
  return run;
}

/* Whether the hook lets the step pass. */
static cn_status cn_call_hook_(const cn_trainer *trainer, cn_error *error) {
  const cn_training_options *o = &trainer->options;
  if (!o->gradient_hook ||
      !o->gradient_hook(trainer->gradients, trainer->plan.net->value_count, o->hook_user))
    return CN_OK;
  return cn_fail_(error, CN_ERROR_ARGUMENT, "the gradient hook stopped step %lld",
                  (long long)trainer->step + 1);
}

CN_API cn_status cn_train_gradients(cn_trainer *trainer, const cn_batch *batch, cn_metrics *metrics,
                                    cn_error *error) {
  cn_update_run_ run = cn_update_run_of_(trainer);
  cn_metrics result;
  cn_status status = cn_compute_gradients_(trainer, batch, &result, error);
  if (status) return status;
  cn_copy_figures_(trainer, 1);
  run.limit = CN_INFINITE_BITS_;
  status = cn_check_gradients_(&run, error);
  if (metrics && status == CN_OK) *metrics = result;
  return status;
}

CN_API cn_status cn_train_step(cn_trainer *trainer, const cn_batch *batch, cn_metrics *metrics,
                               cn_error *error) {
  const cn_plan_ *plan = &trainer->plan;
  cn_update_run_ run = cn_update_run_of_(trainer);
  cn_metrics result;
  unsigned mode;
  cn_status status = cn_check_rate_(run.update.learning_rate, error);
  if (status == CN_OK) status = cn_compute_gradients_(trainer, batch, &result, error);
  if (status) return status;
  status = cn_call_hook_(trainer, error);
  if (status == CN_OK) status = cn_check_gradients_(&run, error);
  if (status) {
    cn_copy_figures_(trainer, 1);
    return status;
  }
  trainer->step++;
  mode = cn_flush_subnormals_();
  cn_parallel_(plan, NULL, trainer->chunk_count, cn_update_task_, &run);
  cn_restore_subnormals_(mode);
  cn_atomic_add_(&plan->net->version, 1);
  if (metrics) *metrics = result;
  return CN_OK;
}

CN_API int cn_early_stopping_check(cn_early_stopping *stopping, double loss) {
  const int finite = cn_is_finite_(loss);
  stopping->checks++;
  if (stopping->best_check == 0 ||
      (finite && (loss < stopping->best || !cn_is_finite_(stopping->best)))) {
    stopping->best = loss, stopping->best_check = stopping->checks;
    return 1;
  }
  return stopping->checks - stopping->best_check >= stopping->patience ? -1 : 0;
}

/* ==== layer 4: files ========================================================================== */

/* ---- writing safetensors ----
   Eight bytes with the length of the header, which is JSON; then the tensors' data. */

#define CN_MAX_HEADER_ ((size_t)100 << 20) /* bytes, the format's own limit */
#define CN_MAX_DIGITS_ 18                  /* of a whole number in the header */
#define CN_MAX_RANK_ 8

/* Where the bytes of a file go: called with `to` and each run of them in turn. */
typedef void (*cn_put_)(void *to, const void *data, size_t bytes);

static const char *const cn_dtype_names_[] = {"F32", "F16", "BF16"};

static void cn_text_add_json_(cn_text_ *text, const char *string) {
  cn_text_add_(text, "\"");
  for (; *string; string++) {
    const unsigned char c = (unsigned char)*string;
    if (c == '"' || c == '\\')
      cn_text_add_(text, "\\%c", c);
    else if (c == '\n')
      cn_text_add_(text, "\\n");
    else if (c < 32)
      cn_text_add_(text, "\\u%04x", c);
    else
      cn_text_add_(text, "%c", c);
  }
  cn_text_add_(text, "\"");
}

/* Values of a tensor of that shape. 0 if it is none, or too large for a file. */
static int cn_count_values_(int rank, const int64_t *dims, int64_t *values) {
  const int64_t most = (int64_t)(SIZE_MAX / 16);
  int i;
  *values = 1;
  for (i = 0; i < rank; i++) {
    if (dims[i] < 0 || dims[i] >= INT64_C(1000000000000000000)) return 0; /* CN_MAX_DIGITS_ */
    if (dims[i] && *values > most / dims[i]) return 0;
    *values *= dims[i];
  }
  return 1;
}

static int cn_name_order_(const void *a, const void *b) {
  return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Fails if two of `count` items have the same name, which is the first member of each. */
static cn_status cn_check_names_(const void *items, int count, size_t item_bytes, const char *path,
                                 cn_status fault, cn_error *error) {
  const char **names = (const char **)CN_MALLOC(((size_t)count + 1) * sizeof *names);
  cn_status status = CN_OK;
  int i;
  if (!names) return cn_fail_(error, CN_ERROR_MEMORY, "%.160s: no memory for its header", path);
  for (i = 0; i < count; i++)
    memcpy(&names[i], (const char *)items + (size_t)i * item_bytes, sizeof names[i]);
  qsort((void *)names, (size_t)count, sizeof *names, cn_name_order_);
  for (i = 1; i < count && !status; i++)
    if (strcmp(names[i - 1], names[i]) == 0)
      status = cn_fail_(error, fault, "%.160s: %.90s stands there twice", path, names[i]);
  CN_FREE((void *)names);
  return status;
}

/* What is wrong with a tensor that is to be written, or NULL. */
static const char *cn_tensor_fault_(const cn_tensor *t) {
  int64_t values;
  if (strcmp(t->name, "__metadata__") == 0) return "has the name of the metadata";
  if (!cn_is_utf8_(t->name)) return "has a name that is not UTF-8";
  if (t->dtype != CN_F32) return "is not F32";
  if (t->rank < 0 || t->rank > CN_MAX_RANK_ || !cn_count_values_(t->rank, t->dims, &values))
    return "has a shape that no file can hold";
  return (uint64_t)values * 4 == t->bytes ? NULL : "is not of its shape's size";
}

/* All that a reader would refuse. */
static cn_status cn_check_contents_(const cn_tensor *tensors, int tensor_count,
                                    const cn_note *notes, int note_count, const char *path,
                                    cn_error *error) {
  cn_status status;
  int i;
  for (i = 0; i < tensor_count; i++) {
    const char *fault = tensors[i].name ? cn_tensor_fault_(&tensors[i]) : "has no name";
    if (fault)
      return cn_fail_(error, CN_ERROR_ARGUMENT, "%.160s: tensor %.90s %s", path,
                      tensors[i].name ? tensors[i].name : "", fault);
  }
  for (i = 0; i < note_count; i++)
    if (!notes[i].key || !notes[i].value || !cn_is_utf8_(notes[i].key) ||
        !cn_is_utf8_(notes[i].value))
      return cn_fail_(error, CN_ERROR_ARGUMENT, "%.160s: note %d is not UTF-8", path, i);
  status = cn_check_names_(tensors, tensor_count, sizeof *tensors, path, CN_ERROR_ARGUMENT, error);
  if (status) return status;
  return cn_check_names_(notes, note_count, sizeof *notes, path, CN_ERROR_ARGUMENT, error);
}

/* All that stands in front of the data. */
static cn_status cn_header_(cn_text_ *text, const cn_tensor *tensors, int tensor_count,
                            const cn_note *notes, int note_count, const char *path,
                            cn_error *error) {
  const cn_status status =
      cn_check_contents_(tensors, tensor_count, notes, note_count, path, error);
  size_t offset = 0, length;
  int i, j;
  if (status) return status;
  cn_text_add_(text, "        {"); /* the length is known at the end */
  if (note_count) {
    cn_text_add_(text, "\"__metadata__\":{");
    for (i = 0; i < note_count; i++) {
      if (i) cn_text_add_(text, ",");
      cn_text_add_json_(text, notes[i].key);
      cn_text_add_(text, ":");
      cn_text_add_json_(text, notes[i].value);
    }
    cn_text_add_(text, "}");
  }
  for (i = 0; i < tensor_count; i++) {
    if (i || note_count) cn_text_add_(text, ",");
    cn_text_add_json_(text, tensors[i].name);
    cn_text_add_(text, ":{\"dtype\":\"F32\",\"shape\":[");
    for (j = 0; j < tensors[i].rank; j++)
      cn_text_add_(text, j ? ",%lld" : "%lld", (long long)tensors[i].dims[j]);
    cn_text_add_(text, "],\"data_offsets\":[%zu,%zu]}", offset, offset + tensors[i].bytes);
    offset += tensors[i].bytes;
  }
  cn_text_add_(text, "}");
  while (text->length % 8 && !text->failed)
    cn_text_add_(text, " "); /* so that the data is aligned */
  if (text->failed)
    return cn_fail_(error, CN_ERROR_MEMORY, "%.200s: no memory for the header", path);
  length = text->length - 8;
  if (length > CN_MAX_HEADER_)
    return cn_fail_(error, CN_ERROR_ARGUMENT, "%.200s: a header of %zu bytes is too long", path,
                    length);
  for (i = 0; i < 8; i++) text->data[i] = (char)(unsigned char)((uint64_t)length >> (8 * i) & 0xFF);
  return CN_OK;
}

/* ---- reading safetensors ---- */

typedef struct cn_json_ { /* reads the header, a small part of JSON */
  const char *path, *text;
  size_t at, end; /* bytes of the header */
  cn_error *error;
} cn_json_;

typedef struct cn_opened_ { /* a cn_safetensors and what belongs to it */
  cn_safetensors file;
  const unsigned char *bytes;
  size_t size;
  void (*release)(void *bytes, size_t size); /* NULL: the bytes are the caller's */
  int tensor_capacity, note_capacity;
} cn_opened_;

static int cn_json_error_(cn_json_ *j, const char *what) {
  if (j->error && j->error->status == CN_OK)
    cn_fail_(j->error, CN_ERROR_FORMAT, "%.160s: byte %zu: %s", j->path, j->at + 8, what);
  return 0;
}

static void cn_json_blank_(cn_json_ *j) {
  while (j->at < j->end && strchr(" \t\r\n", j->text[j->at]) && j->text[j->at]) j->at++;
}

static int cn_json_take_(cn_json_ *j, char c) { /* takes it if it comes next */
  cn_json_blank_(j);
  if (j->at >= j->end || j->text[j->at] != c) return 0;
  j->at++;
  return 1;
}

static int cn_json_need_(cn_json_ *j, char c) {
  char what[] = "' ' is expected";
  what[1] = c;
  return cn_json_take_(j, c) || cn_json_error_(j, what);
}

static int cn_json_hex_(cn_json_ *j, unsigned *code) {
  int i;
  *code = 0;
  for (i = 0; i < 4; i++, j->at++) {
    const char c = j->at < j->end ? j->text[j->at] : 0;
    const char *digits = "0123456789abcdef", *lower = c >= 'A' && c <= 'F' ? strchr(digits, c + 32)
                                                      : c                  ? strchr(digits, c)
                                                                           : NULL;
    if (!lower) return cn_json_error_(j, "four hexadecimal digits are expected");
    *code = *code * 16 + (unsigned)(lower - digits);
  }
  return 1;
}

static char *cn_put_utf8_(char *to, unsigned code) {
  if (code < 0x80) {
    *to++ = (char)code;
  } else if (code < 0x800) {
    *to++ = (char)(0xC0 | code >> 6), *to++ = (char)(0x80 | (code & 63));
  } else if (code < 0x10000) {
    *to++ = (char)(0xE0 | code >> 12), *to++ = (char)(0x80 | (code >> 6 & 63)),
    *to++ = (char)(0x80 | (code & 63));
  } else {
    *to++ = (char)(0xF0 | code >> 18), *to++ = (char)(0x80 | (code >> 12 & 63));
    *to++ = (char)(0x80 | (code >> 6 & 63)), *to++ = (char)(0x80 | (code & 63));
  }
  return to;
}

static int cn_json_escape_(cn_json_ *j, char **to) {
  static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  const char c = j->at < j->end ? j->text[j->at++] : 0;
  const char *name = c ? strchr(names, c) : NULL;
  unsigned code, low;
  if (name) {
    *(*to)++ = values[name - names];
    return 1;
  }
  if (c != 'u') return cn_json_error_(j, "an unknown escape");
  if (!cn_json_hex_(j, &code)) return 0;
  if (code >= 0xD800 && code < 0xDC00) {
    if (j->end - j->at < 6 || j->text[j->at] != '\\' || j->text[j->at + 1] != 'u')
      return cn_json_error_(j, "half a surrogate pair");
    j->at += 2;
    if (!cn_json_hex_(j, &low)) return 0;
    if (low < 0xDC00 || low > 0xDFFF) return cn_json_error_(j, "half a surrogate pair");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
  } else if (code >= 0xDC00 && code < 0xE000) {
    return cn_json_error_(j, "half a surrogate pair");
  }
  if (code == 0) return cn_json_error_(j, "a zero byte in a text");
  *to = cn_put_utf8_(*to, code);
  return 1;
}

/* A string, newly allocated; NULL after an error. */
static char *cn_json_string_(cn_json_ *j) {
  char *string, *to;
  size_t length = 0;
  if (!cn_json_need_(j, '"')) return NULL;
  while (j->at + length < j->end && j->text[j->at + length] != '"')
    length += j->text[j->at + length] == '\\' ? 2 : 1;
  string = to = (char *)CN_MALLOC(length + 1);
  if (!string) {
    cn_fail_(j->error, CN_ERROR_MEMORY, "%.160s: no memory for its header", j->path);
    return NULL;
  }
  for (;;) {
    size_t n;
    if (j->at >= j->end || (unsigned char)j->text[j->at] < 32) {
      cn_json_error_(j, j->at >= j->end ? "a text has no end" : "a control character in a text");
      break;
    }
    if (j->text[j->at] == '"') {
      j->at++;
      *to = 0;
      return string;
    }
    if (j->text[j->at] == '\\') {
      j->at++;
      if (!cn_json_escape_(j, &to)) break;
      continue;
    }
    n = cn_utf8_length_(j->text + j->at, j->end - j->at);
    if (n == 0) {
      cn_json_error_(j, "the header is not UTF-8");
      break;
    }
    memcpy(to, j->text + j->at, n);
    to += n, j->at += n;
  }
  CN_FREE(string);
  return NULL;
}

static int cn_json_integer_(cn_json_ *j, int64_t *value) {
  int digits = 0;
  cn_json_blank_(j);
  if (j->end - j->at > 1 && j->text[j->at] == '0' && j->text[j->at + 1] >= '0' &&
      j->text[j->at + 1] <= '9')
    return cn_json_error_(j, "a number begins with 0");
  for (*value = 0; j->at < j->end && j->text[j->at] >= '0' && j->text[j->at] <= '9';
       j->at++, digits++)
    if (digits < CN_MAX_DIGITS_) *value = *value * 10 + (j->text[j->at] - '0');
  return (digits > 0 && digits <= CN_MAX_DIGITS_) ||
         cn_json_error_(j, "a whole number is expected");
}

/* [1,2,3] with at most `most` numbers; returns how many, -1 after an error. */
static int cn_json_integers_(cn_json_ *j, int64_t *values, int most) {
  int n = 0;
  if (!cn_json_need_(j, '[')) return -1;
  if (cn_json_take_(j, ']')) return 0;
  do {
    if (n == most) {
      cn_json_error_(j, "more numbers than can be");
      return -1;
    }
    if (!cn_json_integer_(j, &values[n++])) return -1;
  } while (cn_json_take_(j, ','));
  return cn_json_need_(j, ']') ? n : -1;
}

static size_t cn_dtype_bytes_(const char *name) {
  static const struct {
    const char *name;
    size_t bytes;
  } types[] = {{"F32", 4},  {"F16", 2},     {"BF16", 2},    {"F64", 8}, {"I64", 8}, {"U64", 8},
               {"I32", 4},  {"U32", 4},     {"I16", 2},     {"U16", 2}, {"I8", 1},  {"U8", 1},
               {"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"C64", 8}};
  size_t i;
  for (i = 0; i < sizeof types / sizeof types[0]; i++)
    if (strcmp(types[i].name, name) == 0) return types[i].bytes;
  return 0;
}

/* A dtype's name. item receives the bytes of a value, 0 where the dtype is not known: what such a
   tensor is does not matter before it is needed. */
static int cn_json_dtype_(cn_json_ *j, cn_tensor *tensor, size_t *item) {
  char *name = cn_json_string_(j);
  int i;
  if (!name) return 0;
  for (i = 0; i < 3 && strcmp(name, cn_dtype_names_[i]) != 0; i++) {
  }
  tensor->dtype = (cn_dtype)i;
  *item = cn_dtype_bytes_(name);
  snprintf(tensor->dtype_name, sizeof tensor->dtype_name, "%s", name);
  CN_FREE(name);
  return tensor->dtype_name[0] || cn_json_error_(j, "a dtype without a name");
}

/* {"dtype":"F32","shape":[2,3],"data_offsets":[0,24]} of the tensor just named. */
static int cn_json_tensor_(cn_json_ *j, cn_tensor *tensor, const unsigned char *data,
                           size_t data_bytes) {
  int64_t offsets[2] = {-1, -1}, values;
  size_t item = 0;
  int seen = 0;
  if (!cn_json_need_(j, '{')) return 0;
  do {
    char *key = cn_json_string_(j);
    int kind;
    if (!key) return 0;
    kind = strcmp(key, "dtype") == 0          ? 1
           : strcmp(key, "shape") == 0        ? 2
           : strcmp(key, "data_offsets") == 0 ? 4
                                              : 0;
    CN_FREE(key);
    if (!kind || (seen & kind))
      return cn_json_error_(j, "dtype, shape and data_offsets are expected, once each");
    seen |= kind;
    if (!cn_json_need_(j, ':')) return 0;
    if (kind == 1) {
      if (!cn_json_dtype_(j, tensor, &item)) return 0;
    } else if (kind == 2) {
      tensor->rank = cn_json_integers_(j, tensor->dims, CN_MAX_RANK_);
      if (tensor->rank < 0) return 0;
    } else if (cn_json_integers_(j, offsets, 2) != 2) {
      return cn_json_error_(j, "two data_offsets are expected");
    }
  } while (cn_json_take_(j, ','));
  if (!cn_json_need_(j, '}')) return 0;
  if (seen != 7) return cn_json_error_(j, "dtype, shape and data_offsets are expected, once each");
  if (!cn_count_values_(tensor->rank, tensor->dims, &values))
    return cn_json_error_(j, "the shape is too large");
  if (offsets[0] > offsets[1] || (uint64_t)offsets[1] > data_bytes)
    return cn_json_error_(j, "data_offsets lie outside the file");
  tensor->bytes = (size_t)(offsets[1] - offsets[0]), tensor->data = data + offsets[0];
  if (item && (uint64_t)values * item != tensor->bytes)
    return cn_json_error_(j, "data_offsets do not match dtype and shape");
  return 1;
}

/* {"key":"value"}, or null, which some writers put there for nothing. */
static int cn_json_metadata_(cn_json_ *j, cn_opened_ *opened) {
  cn_safetensors *file = &opened->file;
  cn_json_blank_(j);
  if (j->end - j->at >= 4 && memcmp(j->text + j->at, "null", 4) == 0) {
    j->at += 4;
    return 1;
  }
  if (!cn_json_need_(j, '{')) return 0;
  if (cn_json_take_(j, '}')) return 1;
  do {
    cn_note *note;
    if (!cn_grow_(NULL, (void **)&file->notes, file->note_count, &opened->note_capacity,
                  sizeof *file->notes))
      return cn_fail_(j->error, CN_ERROR_MEMORY, "%.160s: no memory for its header", j->path), 0;
    note = &file->notes[file->note_count];
    note->value = NULL, note->key = cn_json_string_(j);
    if (!note->key) return 0;
    file->note_count++;
    if (!cn_json_need_(j, ':')) return 0;
    note->value = cn_json_string_(j);
    if (!note->value) return 0;
  } while (cn_json_take_(j, ','));
  return cn_json_need_(j, '}');
}

static int cn_json_header_(cn_json_ *j, cn_opened_ *opened) {
  cn_safetensors *file = &opened->file;
  const unsigned char *data = opened->bytes + 8 + j->end;
  const size_t data_bytes = opened->size - 8 - j->end;
  int has_metadata = 0;
  if (!cn_json_need_(j, '{')) return 0;
  if (cn_json_take_(j, '}')) return 1;
  do {
    char *name = cn_json_string_(j);
    cn_tensor *tensor;
    if (!name) return 0;
    if (strcmp(name, "__metadata__") == 0) {
      CN_FREE(name);
      if (has_metadata++) return cn_json_error_(j, "__metadata__ stands there twice");
      if (!cn_json_need_(j, ':') || !cn_json_metadata_(j, opened)) return 0;
      continue;
    }
    if (!cn_grow_(NULL, (void **)&file->tensors, file->tensor_count, &opened->tensor_capacity,
                  sizeof *file->tensors)) {
      CN_FREE(name);
      return cn_fail_(j->error, CN_ERROR_MEMORY, "%.160s: no memory for its header", j->path), 0;
    }
    tensor = &file->tensors[file->tensor_count++];
    memset(tensor, 0, sizeof *tensor);
    tensor->name = name;
    if (!cn_json_need_(j, ':') || !cn_json_tensor_(j, tensor, data, data_bytes)) return 0;
  } while (cn_json_take_(j, ','));
  if (!cn_json_need_(j, '}')) return 0;
  cn_json_blank_(j);
  return j->at == j->end || cn_json_error_(j, "the header goes on behind its end");
}

static int cn_tensor_order_(const void *a, const void *b) {
  const cn_tensor *x = (const cn_tensor *)a, *y = (const cn_tensor *)b;
  if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
  if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty ones first */
  return strcmp(x->name, y->name);
}

/* The data lies without overlap or hole. */
static int cn_check_layout_(cn_json_ *j, cn_opened_ *opened) {
  cn_safetensors *file = &opened->file;
  const unsigned char *expected = opened->bytes + 8 + j->end, *end = opened->bytes + opened->size;
  int i;
  if (file->tensor_count)
    qsort(file->tensors, (size_t)file->tensor_count, sizeof *file->tensors, cn_tensor_order_);
  for (i = 0; i < file->tensor_count; i++) {
    const unsigned char *data = (const unsigned char *)file->tensors[i].data;
    if (data != expected)
      return cn_fail_(j->error, CN_ERROR_FORMAT, "%.160s: tensor %.90s %s", j->path,
                      file->tensors[i].name,
                      data < expected ? "overlaps the one before it" : "leaves a hole before it"),
             0;
    expected = data + file->tensors[i].bytes;
  }
  if (expected != end)
    return cn_fail_(j->error, CN_ERROR_FORMAT,
                    "%.160s: %zu bytes behind the last tensor belong to none", j->path,
                    (size_t)(end - expected)),
           0;
  return 1;
}

CN_API void cn_safetensors_free(cn_safetensors *file) {
  cn_opened_ *opened = (cn_opened_ *)(void *)file; /* its first member */
  int i;
  if (!file) return;
  for (i = 0; i < file->tensor_count; i++) CN_FREE((void *)(uintptr_t)file->tensors[i].name);
  for (i = 0; i < file->note_count; i++) {
    CN_FREE((void *)(uintptr_t)file->notes[i].key);
    CN_FREE((void *)(uintptr_t)file->notes[i].value);
  }
  CN_FREE(file->tensors);
  CN_FREE(file->notes);
  if (opened->release) opened->release((void *)(uintptr_t)opened->bytes, opened->size);
  CN_FREE(opened);
}

/* path: what messages call it. */
static cn_safetensors *cn_open_bytes_(const unsigned char *bytes, size_t size, const char *path,
                                      cn_error *error) {
  cn_opened_ *opened = (cn_opened_ *)CN_MALLOC(sizeof *opened);
  const cn_safetensors *file;
  cn_error local;
  cn_json_ json;
  uint64_t header = 0;
  int i;
  if (!opened) {
    cn_fail_(error, CN_ERROR_MEMORY, "%.200s: no memory to read it", path);
    return NULL;
  }
  memset(opened, 0, sizeof *opened);
  opened->bytes = bytes, opened->size = size, file = &opened->file;
  if (!error) error = &local;
  memset(error, 0, sizeof *error);
  for (i = 0; i < 8 && size >= 8; i++) header |= (uint64_t)bytes[i] << (8 * i);
  if (size < 8) {
    cn_fail_(error, CN_ERROR_FORMAT, "%.160s: %zu bytes are too few for a safetensors file", path,
             size);
  } else if (header > size - 8 || header > CN_MAX_HEADER_) {
    cn_fail_(error, CN_ERROR_FORMAT,
             "%.160s: a header of %llu bytes does not fit a file of %zu: cut, or not safetensors",
             path, (unsigned long long)header, size);
  } else {
    json.path = path, json.text = (const char *)bytes + 8, json.at = 0, json.end = (size_t)header,
    json.error = error;
    if (cn_json_header_(&json, opened) &&
        !cn_check_names_(file->tensors, file->tensor_count, sizeof *file->tensors, path,
                         CN_ERROR_FORMAT, error) &&
        !cn_check_names_(file->notes, file->note_count, sizeof *file->notes, path, CN_ERROR_FORMAT,
                         error) &&
        cn_check_layout_(&json, opened))
      return &opened->file;
  }
  cn_safetensors_free(&opened->file);
  return NULL;
}

CN_API cn_safetensors *cn_safetensors_read_memory(const void *bytes, size_t size, cn_error *error) {
  return cn_open_bytes_((const unsigned char *)bytes, size, "memory", error);
}

CN_API const cn_tensor *cn_safetensors_find(const cn_safetensors *file, const char *name) {
  int i;
  for (i = 0; i < file->tensor_count; i++)
    if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
  return NULL;
}

CN_API const char *cn_safetensors_note(const cn_safetensors *file, const char *key) {
  int i;
  for (i = 0; i < file->note_count; i++)
    if (strcmp(file->notes[i].key, key) == 0) return file->notes[i].value;
  return NULL;
}

/* ---- between this library's order and PyTorch's ---- */

static float cn_half_(unsigned bits) { /* IEEE binary16 */
  const int exponent = (int)(bits >> 10 & 31);
  const float fraction = (float)(bits & 1023), sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 0) return sign * ldexpf(fraction, -24);
  if (exponent == 31) return fraction != 0.0f ? NAN : sign * INFINITY;
  return sign * ldexpf(1024.0f + fraction, exponent - 25);
}

static float cn_value_at_(const cn_tensor *tensor, size_t index) {
  const unsigned char *at =
      (const unsigned char *)tensor->data + index * (tensor->dtype == CN_F32 ? 4 : 2);
  float value;
  uint32_t bits;
  if (tensor->dtype == CN_F16) return cn_half_((unsigned)at[0] | (unsigned)at[1] << 8);
  bits = tensor->dtype == CN_BF16 ? (uint32_t)at[0] << 16 | (uint32_t)at[1] << 24
                                  : (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
                                        (uint32_t)at[3] << 24;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* Runs over a tensor's values in PyTorch's order and gives the place of each in this library's. A
   convolution is [filter][channel][row][column] there and [row][column][channel][filter] here; a
   dense layer is [output][input], its inputs being channel, row, column there and row, column,
   channel here. */
static size_t cn_place_of_(const cn_network *net, const cn_tensor_ *t, size_t index) {
  const size_t filters = (size_t)t->dims[0];
  size_t channels, rows, columns, column, row, channel, filter;
  if (t->plain) return index;
  if (t->rank == 4) {
    channels = (size_t)t->dims[1], rows = (size_t)t->dims[2], columns = (size_t)t->dims[3];
  } else {
    const cn_shape in = net->nodes[net->nodes[t->node].inputs[0]].shape;
    channels = (size_t)in.channels, rows = (size_t)in.height, columns = (size_t)in.width;
  }
  column = index % columns, row = index / columns % rows;
  channel = index / (columns * rows) % channels, filter = index / (columns * rows * channels);
  return ((row * columns + column) * channels + channel) * filters + filter;
}

static void cn_put_float_(unsigned char *to, float value) { /* little-endian on any machine */
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  to[0] = (unsigned char)(bits & 0xFF), to[1] = (unsigned char)(bits >> 8 & 0xFF);
  to[2] = (unsigned char)(bits >> 16 & 0xFF), to[3] = (unsigned char)(bits >> 24);
}

/* ---- saving ---- */

static const char *const cn_optimizer_names_[] = {"adam", "adamw", "sgd", "adagrad"};

/* A network, and perhaps the memory of its optimiser, on the way into a file: sets of values, each
   as the network's own. */
typedef struct cn_export_ {
  cn_network *net;
  const float *sets[3];
  cn_tensor *tensors; /* set after set; without data */
  cn_note *notes;
  char *names;
  int set_count, tensor_count, note_count;
  char step[24];
  cn_text_ header;
  size_t bytes; /* of the whole file */
} cn_export_;

#define CN_PREFIX_BYTES_ 24
#define CN_EXPORT_CHUNK_ 2048 /* values at a time */

static void cn_export_free_(cn_export_ *e) {
  cn_free_(&e->net->allocator, e->tensors);
  cn_free_(&e->net->allocator, e->notes);
  cn_free_(&e->net->allocator, e->names);
  cn_free_(&e->net->allocator, e->header.data);
}

static void cn_export_note_(cn_export_ *e, const char *key, const char *value) {
  e->notes[e->note_count].key = key, e->notes[e->note_count++].value = value;
}

/* One tensor per parameter, named prefix + name. */
static void cn_export_set_(cn_export_ *e, const char *prefix, const float *values) {
  const cn_network *net = e->net;
  const size_t name_bytes = sizeof net->tensors[0].name + CN_PREFIX_BYTES_;
  int i, j;
  e->sets[e->set_count++] = values;
  for (i = 0; i < net->tensor_count; i++) {
    const cn_tensor_ *t = &net->tensors[i];
    cn_tensor *to = &e->tensors[e->tensor_count];
    char *name = e->names + (size_t)e->tensor_count * name_bytes;
    e->tensor_count++;
    snprintf(name, name_bytes, "%.20s%s", prefix, t->name);
    memset(to, 0, sizeof *to);
    to->name = name, to->dtype = CN_F32, to->rank = t->rank, to->bytes = t->count * sizeof(float);
    for (j = 0; j < t->rank; j++) to->dims[j] = t->dims[j];
    e->bytes += to->bytes;
  }
}

/* All but the data. trainer may be NULL. cn_export_free_ follows in any case. */
static cn_status cn_export_begin_(cn_export_ *e, cn_network *net, const cn_trainer *trainer,
                                  const char *path, cn_error *error) {
  const size_t tensors = (size_t)(3 * net->tensor_count) + 1;
  const char *text = cn_network_text(net);
  cn_status status;
  int i;
  memset(e, 0, sizeof *e);
  e->net = net, e->header.allocator = &net->allocator;
  e->tensors = (cn_tensor *)cn_malloc_(&net->allocator, tensors * sizeof *e->tensors);
  e->notes =
      (cn_note *)cn_malloc_(&net->allocator, (size_t)(net->note_count + 3) * sizeof *e->notes);
  e->names = (char *)cn_malloc_(&net->allocator,
                                tensors * (sizeof net->tensors[0].name + CN_PREFIX_BYTES_));
  if (!text || !e->tensors || !e->notes || !e->names)
    return cn_fail_(error, CN_ERROR_MEMORY, "%.200s: no memory to save it", path);
  cn_export_note_(e, "network", text);
  for (i = 0; i < net->note_count; i++)
    cn_export_note_(e, net->notes[2 * i], net->notes[2 * i + 1]);
  cn_export_set_(e, "", net->values);
  if (trainer) {
    snprintf(e->step, sizeof e->step, "%lld", (long long)trainer->step);
    cn_export_note_(e, "optimizer.kind", cn_optimizer_names_[trainer->options.optimizer]);
    cn_export_note_(e, "optimizer.step", e->step);
    cn_export_set_(e, "optimizer.first.", trainer->first);
    cn_export_set_(e, "optimizer.second.", trainer->second);
  }
  status =
      cn_header_(&e->header, e->tensors, e->tensor_count, e->notes, e->note_count, path, error);
  e->bytes += e->header.length;
  return status;
}

static void cn_export_put_(const cn_export_ *e, cn_put_ put, void *to) {
  const cn_network *net = e->net;
  unsigned char chunk[CN_EXPORT_CHUNK_ * 4];
  int i;
  put(to, e->header.data, e->header.length);
  for (i = 0; i < e->tensor_count; i++) {
    const cn_tensor_ *t = &net->tensors[i % net->tensor_count];
    const float *values = e->sets[i / net->tensor_count] + t->offset;
    size_t done, n, k;
    for (done = 0; done < t->count; done += n) {
      n = cn_min_size_(t->count - done, CN_EXPORT_CHUNK_);
      for (k = 0; k < n; k++) cn_put_float_(chunk + 4 * k, values[cn_place_of_(net, t, done + k)]);
      put(to, chunk, 4 * n);
    }
  }
}

static void cn_put_memory_(void *to, const void *data, size_t bytes) {
  char **at = (char **)to;
  memcpy(*at, data, bytes);
  *at += bytes;
}

CN_API size_t cn_save_memory(cn_network *net, void *buffer, size_t capacity, cn_error *error) {
  char *at = (char *)buffer;
  size_t bytes = 0;
  cn_export_ e;
  if (cn_export_begin_(&e, net, NULL, "memory", error) == CN_OK) {
    bytes = e.bytes;
    if (bytes <= capacity) cn_export_put_(&e, cn_put_memory_, &at);
  }
  cn_export_free_(&e);
  return bytes;
}

/* ---- loading ---- */

static int cn_tensor_fits_(const cn_tensor_ *t, const cn_tensor *found) {
  int i;
  if (t->rank != found->rank || found->dtype == CN_OTHER) return 0;
  for (i = 0; i < t->rank; i++)
    if (found->dims[i] != t->dims[i]) return 0;
  return 1;
}

static void cn_describe_mismatch_(const cn_tensor_ *t, const cn_tensor *found, char *text,
                                  size_t bytes) {
  cn_text_ d = {NULL, 0, 0, 0, NULL};
  int i;
  if (!found) {
    snprintf(text, bytes, "is missing");
    return;
  }
  if (found->dtype == CN_OTHER) {
    snprintf(text, bytes, "is %s, neither F32 nor F16 nor BF16", found->dtype_name);
    return;
  }
  cn_text_add_(&d, "is ");
  for (i = 0; i < found->rank; i++)
    cn_text_add_(&d, i ? "x%lld" : "%lld", (long long)found->dims[i]);
  cn_text_add_(&d, " in the file and ");
  for (i = 0; i < t->rank; i++) cn_text_add_(&d, i ? "x%d" : "%d", t->dims[i]);
  cn_text_add_(&d, " in the network");
  snprintf(text, bytes, "%s", d.failed ? "has another shape" : d.data);
  CN_FREE(d.data);
}

static void cn_import_(const cn_network *net, const cn_tensor_ *t, const cn_tensor *found,
                       float *values) {
  size_t i;
  for (i = 0; i < t->count; i++)
    values[t->offset + cn_place_of_(net, t, i)] = cn_value_at_(found, i);
}

/* PyTorch keeps a counter with each batch norm that nothing here needs. */
static int cn_is_counter_(const cn_network *net, const char *name) {
  const char *end = strrchr(name, '.');
  int i;
  if (!end || strcmp(end, ".num_batches_tracked") != 0) return 0;
  for (i = 0; i < net->node_count; i++)
    if (net->nodes[i].op == CN_OP_BATCHNORM && strlen(net->nodes[i].name) == (size_t)(end - name) &&
        strncmp(net->nodes[i].name, name, (size_t)(end - name)) == 0)
      return 1;
  return 0;
}

/* Does the file have all of the network's tensors? With a report, what it lacks is told, and all is
   well. */
static int cn_match_tensors_(const cn_network *net, const cn_safetensors *file, const char *path,
                             const char *prefix, cn_mismatch_report report, void *user,
                             cn_error *error) {
  char name[sizeof net->tensors[0].name + CN_PREFIX_BYTES_], details[200];
  int i;
  for (i = 0; i < net->tensor_count; i++) {
    const cn_tensor *found;
    snprintf(name, sizeof name, "%.20s%s", prefix, net->tensors[i].name);
    found = cn_safetensors_find(file, name);
    if (found && cn_tensor_fits_(&net->tensors[i], found)) continue;
    cn_describe_mismatch_(&net->tensors[i], found, details, sizeof details);
    if (!report) {
      cn_fail_(error, CN_ERROR_FORMAT, "%.120s: tensor %.60s %.120s", path, name, details);
      return 0;
    }
    report(found ? CN_TENSOR_SHAPE : CN_TENSOR_MISSING, name, details, user);
  }
  return 1;
}

/* Takes the tensors that fit, returns how many. */
static int cn_import_tensors_(const cn_network *net, const cn_safetensors *file, const char *prefix,
                              float *values) {
  char name[sizeof net->tensors[0].name + CN_PREFIX_BYTES_];
  int i, loaded = 0;
  for (i = 0; i < net->tensor_count; i++) {
    const cn_tensor *found;
    snprintf(name, sizeof name, "%.20s%s", prefix, net->tensors[i].name);
    found = cn_safetensors_find(file, name);
    if (!found || !cn_tensor_fits_(&net->tensors[i], found)) continue;
    cn_import_(net, &net->tensors[i], found, values);
    loaded++;
  }
  return loaded;
}

static void cn_report_extra_(const cn_network *net, const cn_safetensors *file,
                             cn_mismatch_report report, void *user) {
  int i, j;
  for (i = 0; i < file->tensor_count; i++) {
    for (j = 0; j < net->tensor_count && strcmp(net->tensors[j].name, file->tensors[i].name) != 0;
         j++) {
    }
    if (j == net->tensor_count && !cn_is_counter_(net, file->tensors[i].name))
      report(CN_TENSOR_EXTRA, file->tensors[i].name, "is not in the network", user);
  }
}

static cn_status cn_load_notes_(cn_network *net, const cn_safetensors *file, cn_error *error) {
  int i;
  for (i = 0; i < file->note_count; i++) {
    const char *key = file->notes[i].key;
    if (!cn_is_note_key_(key)) continue;
    if (cn_network_set_note(net, key, file->notes[i].value, error)) return CN_ERROR_MEMORY;
  }
  return CN_OK;
}

/* These two take over what was read, NULL included, and free it. */
static int cn_take_weights_(cn_network *net, cn_safetensors *file, const char *path,
                            cn_mismatch_report report, void *user, cn_error *error) {
  int loaded = -1;
  if (file && cn_match_tensors_(net, file, path, "", report, user, error)) {
    loaded = cn_import_tensors_(net, file, "", net->values);
    if (report) cn_report_extra_(net, file, report, user);
    net->version++;
  }
  cn_safetensors_free(file);
  return loaded;
}

/* The tensors are held against the graph before there is room for their values: what a text of a
   few bytes asks for may be large. */
static cn_network *cn_take_network_(cn_safetensors *file, const char *path, cn_error *error) {
  const char *text = file ? cn_safetensors_note(file, "network") : NULL;
  cn_network *net = NULL;
  cn_error inner;
  memset(&inner, 0, sizeof inner);
  if (file && !text) {
    cn_fail_(error, CN_ERROR_FORMAT,
             "%.160s: there is no network in the metadata; give its architecture", path);
  } else if (file) {
    net = cn_parse_graph_(text, &inner);
    if (!net && inner.status == CN_ERROR_MEMORY)
      cn_fail_(error, CN_ERROR_MEMORY, "%.100s: %.160s", path, inner.message);
    else if (!net)
      cn_fail_(error, CN_ERROR_FORMAT, "%.100s: its network, line %d, column %d: %.160s", path,
               inner.line, inner.column, inner.message);
  }
  if (net && cn_match_tensors_(net, file, path, "", NULL, NULL, error) &&
      cn_grow_values_(net, 0, error) == CN_OK && cn_load_notes_(net, file, error) == CN_OK) {
    cn_import_tensors_(net, file, "", net->values);
  } else {
    cn_network_free(net);
    net = NULL;
  }
  cn_safetensors_free(file);
  return net;
}

CN_API int cn_load_weights_memory(cn_network *net, const void *bytes, size_t size,
                                  cn_mismatch_report report, void *user, cn_error *error) {
  cn_safetensors *file = cn_safetensors_read_memory(bytes, size, error);
  return cn_take_weights_(net, file, "memory", report, user, error);
}

CN_API cn_network *cn_load_memory(const void *bytes, size_t size, cn_error *error) {
  return cn_take_network_(cn_safetensors_read_memory(bytes, size, error), "memory", error);
}

#ifndef CONVNET_NO_FILES

#include <errno.h>
#if defined(__unix__) || defined(__APPLE__)
#define CN_POSIX_
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#ifndef __cplusplus /* strict C99 hides these */
int fsync(int descriptor);
int fchmod(int descriptor, mode_t mode);
ssize_t readlink(const char *path, char *target, size_t bytes);
#endif
#elif defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#endif

/* ---- a file that appears whole or not at all ---- */

typedef struct cn_writer_ {
  const char *path;
  char *place;     /* where the file is to be: at the end of path's symbolic links */
  char *temporary; /* what is written, beside the place; NULL: path, which is no regular file */
#ifdef CN_POSIX_
  int file;
#else
  FILE *file;
#endif
  int failed; /* errno of the first failure */
} cn_writer_;

/* Takes over the place; returns the bytes that `temporary` has room for, 0 with errno. */
static size_t cn_writer_place_(cn_writer_ *w, char *place) {
  const size_t bytes = place ? strlen(place) + 48 : 0;
  w->place = place;
  if (place) w->temporary = (char *)CN_MALLOC(bytes);
  if (place && !w->temporary) errno = ENOMEM;
  return w->temporary ? bytes : 0;
}

#ifdef CN_POSIX_
/* The path at which a chain of symbolic links ends, whether or not a file is there. NULL with
   errno. */
static char *cn_follow_links_(const char *path) {
  char *at = cn_copy_text_(NULL, path, strlen(path));
  int links;
  for (links = 0; at && links < 40; links++) {
    char target[4096], *next;
    const long length = (long)readlink(at, target, sizeof target);
    const char *slash = strrchr(at, '/');
    const size_t folder = slash && length > 0 && target[0] != '/' ? (size_t)(slash - at) + 1 : 0;
    if (length <= 0) return at;
    next = (char *)CN_MALLOC(folder + (size_t)length + 1);
    if (next) {
      memcpy(next, at, folder);
      memcpy(next + folder, target, (size_t)length);
      next[folder + (size_t)length] = 0;
    }
    CN_FREE(at);
    at = next;
  }
  errno = at ? ELOOP : ENOMEM;
  CN_FREE(at);
  return NULL;
}

/* A pipe, a terminal or /dev/null cannot be replaced and is written into. Returns 0 with errno. */
static int cn_writer_begin_(cn_writer_ *w) {
  struct stat old;
  const int exists = stat(w->path, &old) == 0;
  const mode_t mode = exists ? old.st_mode & 0777 : 0666;
  size_t bytes;
  int i;
  w->file = -1;
  if (exists && !S_ISREG(old.st_mode)) {
    w->file = open(w->path, O_WRONLY);
    return w->file >= 0;
  }
  bytes = cn_writer_place_(w, cn_follow_links_(w->path));
  if (!bytes) return 0;
  for (i = 0; i < 1000 && w->file < 0 && (i == 0 || errno == EEXIST); i++) {
    snprintf(w->temporary, bytes, "%s.%ld-%d.part", w->place, (long)getpid(), i);
    w->file = open(w->temporary, O_WRONLY | O_CREAT | O_EXCL, mode);
  }
  if (w->file >= 0 && exists) fchmod(w->file, mode); /* some file systems have no permissions */
  return w->file >= 0;
}

static long cn_writer_write_(cn_writer_ *w, const char *from, size_t bytes) {
  long done;
  do done = (long)write(w->file, from, cn_min_size_(bytes, (size_t)1 << 30));
  while (done < 0 && errno == EINTR);
  return done;
}

/* To the disk, and closed; 0 with errno. */
static int cn_writer_finish_(cn_writer_ *w) {
  const int stored = !w->temporary || w->failed || fsync(w->file) == 0 || errno == EINVAL;
  const int code = errno, closed = close(w->file) == 0;
  if (!stored) errno = code;
  return stored && closed;
}

/* A crash of the machine could undo a rename that the folder does not have on disk yet. Not every
   file system stores folders on request, and the file is whole in any case. */
static int cn_writer_replace_(cn_writer_ *w) {
  char *slash = strrchr(w->place, '/');
  int folder;
  if (rename(w->temporary, w->place) != 0) return 0;
  if (slash) slash[slash == w->place] = 0;
  folder = open(slash ? w->place : ".", O_RDONLY);
  if (folder >= 0) fsync(folder), close(folder);
  return 1;
}
#else
static int cn_writer_begin_(cn_writer_ *w) {
  const size_t bytes = cn_writer_place_(w, cn_copy_text_(NULL, w->path, strlen(w->path)));
  if (!bytes) return 0;
#ifdef _WIN32
  {
    int i, file = -1;
    for (i = 0; i < 1000 && file < 0 && (i == 0 || errno == EEXIST); i++) {
      snprintf(w->temporary, bytes, "%s.%lu-%d.part", w->place, GetCurrentProcessId(), i);
      file = _open(w->temporary, _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY, _S_IREAD | _S_IWRITE);
    }
    w->file = file < 0 ? NULL : _fdopen(file, "wb");
  }
#else
  snprintf(w->temporary, bytes, "%s.part", w->place);
  w->file = fopen(w->temporary, "wb");
#endif
  return w->file != NULL;
}

static long cn_writer_write_(cn_writer_ *w, const char *from, size_t bytes) {
  return (long)fwrite(from, 1, cn_min_size_(bytes, (size_t)1 << 30), w->file);
}

static int cn_writer_finish_(cn_writer_ *w) {
#ifdef _WIN32
  const int stored = fflush(w->file) == 0 && _commit(_fileno(w->file)) == 0;
#else
  const int stored = fflush(w->file) == 0;
#endif
  return fclose(w->file) == 0 && stored;
}

static int cn_writer_replace_(cn_writer_ *w) {
#ifdef _WIN32
  errno = EACCES;
  return MoveFileExA(w->temporary, w->place, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) !=
         0;
#else
  return rename(w->temporary, w->place) == 0;
#endif
}
#endif

static void cn_writer_free_(cn_writer_ *w) {
  CN_FREE(w->place);
  CN_FREE(w->temporary);
}

static cn_status cn_writer_open_(cn_writer_ *w, const char *path, cn_error *error) {
  cn_status status;
  memset(w, 0, sizeof *w);
  w->path = path;
  errno = ENOMEM; /* of copies of the path; whatever else fails sets its own */
  if (cn_writer_begin_(w)) return CN_OK;
  status = cn_fail_(error, errno == ENOMEM ? CN_ERROR_MEMORY : CN_ERROR_IO, "%.200s: %s", path,
                    strerror(errno));
  cn_writer_free_(w);
  return status;
}

static void cn_writer_put_(void *to, const void *data, size_t bytes) {
  cn_writer_ *w = (cn_writer_ *)to;
  const char *from = (const char *)data;
  while (bytes && !w->failed) {
    const long done = cn_writer_write_(w, from, bytes);
    if (done <= 0)
      w->failed = done < 0 && errno ? errno : ENOSPC;
    else
      from += done, bytes -= (size_t)done;
  }
}

/* Puts the file in its place; on failure removes what was written and leaves the old file as it
   was. */
static cn_status cn_writer_close_(cn_writer_ *w, cn_error *error) {
  cn_status status = CN_OK;
  if (!cn_writer_finish_(w) && !w->failed) w->failed = errno;
  if (!w->failed && w->temporary && !cn_writer_replace_(w)) w->failed = errno;
  if (w->failed) {
    status = cn_fail_(error, CN_ERROR_IO, "%.200s: %s", w->path, strerror(w->failed));
    if (w->temporary) remove(w->temporary);
  }
  cn_writer_free_(w);
  return status;
}

CN_API cn_status cn_safetensors_write(const char *path, const cn_tensor *tensors, int tensor_count,
                                      const cn_note *notes, int note_count, cn_error *error) {
  cn_text_ header = {NULL, 0, 0, 0, NULL};
  cn_writer_ writer;
  cn_status status;
  int i;
  for (i = 0; i < tensor_count; i++)
    if (tensors[i].bytes && !tensors[i].data)
      return cn_fail_(error, CN_ERROR_ARGUMENT, "%.160s: tensor %d has no data", path, i);
  status = cn_header_(&header, tensors, tensor_count, notes, note_count, path, error);
  if (!status) status = cn_writer_open_(&writer, path, error);
  if (!status) {
    cn_writer_put_(&writer, header.data, header.length);
    for (i = 0; i < tensor_count; i++) cn_writer_put_(&writer, tensors[i].data, tensors[i].bytes);
    status = cn_writer_close_(&writer, error);
  }
  CN_FREE(header.data);
  return status;
}

static cn_status cn_save_(cn_network *net, const cn_trainer *trainer, const char *path,
                          cn_error *error) {
  cn_export_ e;
  cn_writer_ writer;
  cn_status status = cn_export_begin_(&e, net, trainer, path, error);
  if (!status) status = cn_writer_open_(&writer, path, error);
  if (!status) {
    cn_export_put_(&e, cn_writer_put_, &writer);
    status = cn_writer_close_(&writer, error);
  }
  cn_export_free_(&e);
  return status;
}

CN_API cn_status cn_save(cn_network *net, const char *path, cn_error *error) {
  return cn_save_(net, NULL, path, error);
}

/* ---- a file's bytes ---- */

static void cn_free_bytes_(void *bytes, size_t size) {
  (void)size;
  CN_FREE(bytes);
}

#ifdef CN_POSIX_
static void cn_unmap_(void *bytes, size_t size) {
  munmap(bytes, size);
}

/* The pages of a regular file; NULL if it is none, or cannot be mapped, or is empty: it is read
   then, and whoever reads it tells why not. */
static unsigned char *cn_map_file_(const char *path, size_t *size) {
  struct stat there;
  void *bytes = MAP_FAILED;
  int file;
  /* to open a pipe takes from it */
  if (stat(path, &there) != 0 || !S_ISREG(there.st_mode)) return NULL;
  file = open(path, O_RDONLY);
  if (file < 0) return NULL;
  if (fstat(file, &there) == 0 && there.st_size > 0 && (uint64_t)there.st_size < SIZE_MAX) {
    *size = (size_t)there.st_size;
    bytes = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, file, 0);
  }
  close(file);
  return bytes == MAP_FAILED ? NULL : (unsigned char *)bytes;
}
#endif

/* The whole file; NULL with an error. */
static unsigned char *cn_read_file_(const char *path, size_t *size, cn_error *error) {
  FILE *file = fopen(path, "rb");
  unsigned char *bytes = NULL;
  size_t capacity = 0, got;
  *size = 0;
  if (!file) {
    cn_fail_(error, CN_ERROR_IO, "%.200s: %s", path, strerror(errno));
    return NULL;
  }
  do {
    if (*size == capacity) {
      const size_t larger = capacity ? 2 * capacity : (size_t)1 << 16;
      unsigned char *more = larger > capacity ? (unsigned char *)CN_MALLOC(larger) : NULL;
      if (!more) {
        cn_fail_(error, CN_ERROR_MEMORY, "%.200s: no memory for %zu bytes", path, larger);
        break;
      }
      if (*size) memcpy(more, bytes, *size);
      CN_FREE(bytes);
      bytes = more, capacity = larger;
    }
    got = fread(bytes + *size, 1, capacity - *size, file);
    *size += got;
    if (got == 0 && ferror(file)) cn_fail_(error, CN_ERROR_IO, "%.200s: %s", path, strerror(errno));
  } while (got > 0);
  got = (size_t)ferror(file);
  if (got == 0 && feof(file)) {
    fclose(file);
    return bytes;
  }
  fclose(file);
  CN_FREE(bytes);
  return NULL;
}

CN_API cn_safetensors *cn_safetensors_read(const char *path, cn_error *error) {
  void (*release)(void *, size_t) = cn_free_bytes_;
  unsigned char *bytes = NULL;
  size_t size = 0;
  cn_safetensors *file;
#ifdef CN_POSIX_
  bytes = cn_map_file_(path, &size);
  if (bytes) release = cn_unmap_;
#endif
  if (!bytes) bytes = cn_read_file_(path, &size, error);
  if (!bytes) return NULL;
  file = cn_open_bytes_(bytes, size, path, error);
  if (file)
    ((cn_opened_ *)(void *)file)->release = release; /* its first member */
  else
    release(bytes, size);
  return file;
}

CN_API int cn_load_weights(cn_network *net, const char *path, cn_mismatch_report report, void *user,
                           cn_error *error) {
  cn_safetensors *file = cn_safetensors_read(path, error);
  return cn_take_weights_(net, file, path, report, user, error);
}

CN_API cn_network *cn_load(const char *path, cn_error *error) {
  return cn_take_network_(cn_safetensors_read(path, error), path, error);
}

/* ---- checkpoints ---- */

CN_API cn_status cn_trainer_save(cn_trainer *trainer, const char *path, cn_error *error) {
  return cn_save_(trainer->plan.net, trainer, path, error);
}

#define CN_MOST_STEPS_ (INT64_C(1) << 53) /* further ones could not be told apart as doubles */

/* A number of steps, digits only; -1 if it is none. */
static int64_t cn_parse_steps_(const char *text) {
  int64_t steps = 0;
  if (!*text) return -1;
  for (; *text; text++) {
    if (*text < '0' || *text > '9') return -1;
    steps = steps * 10 + (*text - '0');
    if (steps >= CN_MOST_STEPS_) return -1;
  }
  return steps;
}

static cn_status cn_check_checkpoint_(cn_trainer *trainer, const cn_safetensors *file,
                                      const char *path, cn_error *error) {
  const char *text = cn_safetensors_note(file, "network"),
             *kind = cn_safetensors_note(file, "optimizer.kind"),
             *step = cn_safetensors_note(file, "optimizer.step");
  const char *mine = cn_network_text(trainer->plan.net);
  if (!text || !kind || !step)
    return cn_fail_(error, CN_ERROR_FORMAT, "%.200s: this is not a checkpoint", path);
  if (!mine || strcmp(text, mine) != 0)
    return cn_fail_(error, CN_ERROR_FORMAT, "%.200s: this is the checkpoint of another network",
                    path);
  if (strcmp(kind, cn_optimizer_names_[trainer->options.optimizer]) != 0)
    return cn_fail_(error, CN_ERROR_FORMAT, "%.200s: this checkpoint was made with %.20s, not %s",
                    path, kind, cn_optimizer_names_[trainer->options.optimizer]);
  if (cn_parse_steps_(step) < 0)
    return cn_fail_(error, CN_ERROR_FORMAT, "%.200s: \"%.40s\" is no number of steps", path, step);
  return CN_OK;
}

/* The optimiser's memory decides what becomes of the weights: `second` holds sums of squares, which
   may be infinite but not negative, `first` finite numbers. Looks at bits, as no compiler's flag
   changes what these are. */
static cn_status cn_check_memory_(const cn_network *net, const float *first, const float *second,
                                  const char *path, cn_error *error) {
  const uint32_t infinity = UINT32_C(0x7F800000), sign = UINT32_C(0x80000000);
  size_t j;
  int i;
  for (i = 0; i < net->tensor_count; i++) {
    const cn_tensor_ *t = &net->tensors[i];
    for (j = t->offset; j < t->offset + t->count; j++) {
      uint32_t a, b;
      memcpy(&a, first + j, sizeof a);
      memcpy(&b, second + j, sizeof b);
      if ((a & infinity) == infinity || (b > infinity && b != sign))
        return cn_fail_(error, CN_ERROR_FORMAT,
                        "%.160s: the optimizer's memory of %.90s holds what is no memory", path,
                        t->name);
    }
  }
  return CN_OK;
}

/* Everything is read beside the old state first, so that a failure changes nothing. */
static cn_status cn_take_checkpoint_(cn_trainer *trainer, const cn_safetensors *file,
                                     const char *path, cn_error *error) {
  static const char *const prefixes[3] = {"", "optimizer.first.", "optimizer.second."};
  cn_network *net = trainer->plan.net;
  const size_t count = net->value_count, bytes = count * sizeof(float);
  float *values;
  cn_status status = cn_check_checkpoint_(trainer, file, path, error);
  int i;
  for (i = 0; i < 3 && !status; i++)
    if (!cn_match_tensors_(net, file, path, prefixes[i], NULL, NULL, error))
      status = CN_ERROR_FORMAT;
  if (status) return status;
  values = (float *)cn_allocate_(&net->allocator, cn_times_(3, bytes));
  if (!values) return cn_fail_(error, CN_ERROR_MEMORY, "%.200s: no memory to load it", path);
  for (i = 0; i < 3; i++) cn_import_tensors_(net, file, prefixes[i], values + (size_t)i * count);
  status = cn_check_memory_(net, values + count, values + 2 * count, path, error);
  if (!status) status = cn_load_notes_(net, file, error);
  if (!status) {
    memcpy(net->values, values, bytes);
    memcpy(trainer->first, values + count, bytes);
    memcpy(trainer->second, values + 2 * count, bytes);
    trainer->step = cn_parse_steps_(cn_safetensors_note(file, "optimizer.step"));
    net->version++;
  }
  cn_release_(&net->allocator, values);
  return status;
}

CN_API cn_status cn_trainer_load(cn_trainer *trainer, const char *path, cn_error *error) {
  cn_error local;
  cn_safetensors *file = cn_safetensors_read(path, error ? error : &local);
  const cn_status status =
      file ? cn_take_checkpoint_(trainer, file, path, error) : (error ? error : &local)->status;
  cn_safetensors_free(file);
  return status;
}
#endif /* CONVNET_NO_FILES */

#if defined(CN_CLANG_)
#pragma STDC FP_CONTRACT DEFAULT
#ifdef CN_CLANG_FAST_
#pragma float_control(pop)
#endif
#elif defined(CN_GCC_)
#pragma GCC pop_options
#endif
#endif /* CONVNET_IMPLEMENTATION */

#else /* CN_PASS_ */

/* ==== kernels, once per instruction set ==========================================================

   Everything below is written over a small vocabulary of vectors, defined per instruction set:
     cn_vf_  CN_LANES_ floats     cn_vm_  the first so many lanes     cn_vb_  one truth value a lane
   and named with CN_NAME_, which appends the instruction set. */

#if CN_PASS_ == 3 /* AVX-512 */
#define CN_NAME_(name) name##avx512_
#define CN_LANES_ 16
#define CN_TILE_ROWS_                                                                              \
  14 /* 14 x 2 accumulators, 2 weight vectors and a broadcast fill 31 of 32 registers */
#define CN_TILE_VECTORS_ 2
#define CN_SPARSE_VECTORS_ 4 /* sums of sparse_row: hide the latency of a multiply-add */
#define cn_vf_ __m512
#define cn_vm_ __mmask16
#define cn_vb_ __mmask16
#define cn_vzero_() _mm512_setzero_ps()
#define cn_vset_(x) _mm512_set1_ps(x)
#define cn_vload_(p) _mm512_loadu_ps(p)
#define cn_vstore_(p, v) _mm512_storeu_ps(p, v)
#define cn_vfirst_(n) ((__mmask16)((1u << (n)) - 1u))
#define cn_vload_first_(p, m) _mm512_maskz_loadu_ps(m, p)
#define cn_vstore_first_(p, v, m) _mm512_mask_storeu_ps(p, m, v)
#define cn_vadd_(a, b) _mm512_add_ps(a, b)
#define cn_vsub_(a, b) _mm512_sub_ps(a, b)
#define cn_vmul_(a, b) _mm512_mul_ps(a, b)
#define cn_vdiv_(a, b) _mm512_div_ps(a, b)
#define cn_vmax_(a, b) _mm512_max_ps(a, b)
#define cn_vmin_(a, b) _mm512_min_ps(a, b)
#define cn_vsqrt_(a) _mm512_sqrt_ps(a)
#define cn_vfma_(a, b, c) _mm512_fmadd_ps(a, b, c)
#define cn_vfnma_(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define cn_vgreater_(a, b) _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ)
#define cn_vequal_(a, b) _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)
#define cn_vselect_(t, a, b) _mm512_mask_blend_ps(t, b, a)
#define cn_vround_(a)                                                                              \
  _mm512_cvtepi32_ps(_mm512_cvtps_epi32(a)) /* small numbers only; nearest by MXCSR */
#define cn_vpower2_(n) _mm512_scalef_ps(_mm512_set1_ps(1.0f), n)
#define cn_vload_bytes_(p, m) _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(m, p)))
#define cn_vstore_bytes_(p, v, m)                                                                  \
  _mm_mask_storeu_epi8(p, m, _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(v)))

#elif CN_PASS_ == 2 /* AVX2 and FMA */
#define CN_NAME_(name) name##avx2_
#define CN_LANES_ 8
#define CN_TILE_ROWS_ 6
#define CN_TILE_VECTORS_ 2
#define CN_SPARSE_VECTORS_ 8
#define cn_vf_ __m256
#define cn_vm_ int
#define cn_vb_ __m256
#define cn_vzero_() _mm256_setzero_ps()
#define cn_vset_(x) _mm256_set1_ps(x)
#define cn_vload_(p) _mm256_loadu_ps(p)
#define cn_vstore_(p, v) _mm256_storeu_ps(p, v)
#define cn_vfirst_(n) (n)
#define cn_vload_first_(p, m) CN_NAME_(cn_load_first_)(p, m)
#define cn_vstore_first_(p, v, m) CN_NAME_(cn_store_first_)(p, v, m)
#define cn_vadd_(a, b) _mm256_add_ps(a, b)
#define cn_vsub_(a, b) _mm256_sub_ps(a, b)
#define cn_vmul_(a, b) _mm256_mul_ps(a, b)
#define cn_vdiv_(a, b) _mm256_div_ps(a, b)
#define cn_vmax_(a, b) _mm256_max_ps(a, b)
#define cn_vmin_(a, b) _mm256_min_ps(a, b)
#define cn_vsqrt_(a) _mm256_sqrt_ps(a)
#define cn_vfma_(a, b, c) _mm256_fmadd_ps(a, b, c)
#define cn_vfnma_(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define cn_vgreater_(a, b) _mm256_cmp_ps(a, b, _CMP_GT_OQ)
#define cn_vequal_(a, b) _mm256_cmp_ps(a, b, _CMP_EQ_OQ)
#define cn_vselect_(t, a, b) _mm256_blendv_ps(b, a, t)
#define cn_vround_(a) _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define cn_vpower2_(n)                                                                             \
  _mm256_castsi256_ps(                                                                             \
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23))
#define cn_vload_bytes_(p, m) CN_NAME_(cn_load_bytes_)(p, m)
#define cn_vstore_bytes_(p, v, m) CN_NAME_(cn_store_bytes_)(p, v, m)

#elif CN_PASS_ == 1 /* NEON */
#define CN_NAME_(name) name##neon_
#define CN_LANES_ 4
#ifdef CN_ARM64_
#define CN_TILE_ROWS_ 7 /* 7 x 3 sums keep four multiply-add pipes busy; gcc spills at 8 x 3 */
#define CN_TILE_VECTORS_ 3
#define CN_SPARSE_VECTORS_ 9
#define cn_vdiv_(a, b) vdivq_f32(a, b)
#define cn_vsqrt_(a) vsqrtq_f32(a)
#define cn_vround_(a) vrndnq_f32(a)
#else /* half the registers, and less that is one instruction */
#define CN_TILE_ROWS_ 6
#define CN_TILE_VECTORS_ 2
#define CN_SPARSE_VECTORS_ 8
#define cn_vdiv_(a, b) CN_NAME_(cn_div_)(a, b)
#define cn_vsqrt_(a) CN_NAME_(cn_sqrt_)(a)
#define cn_vround_(a) /* of numbers below 2^22 */                                                  \
  vsubq_f32(vaddq_f32(a, vdupq_n_f32(12582912.0f)), vdupq_n_f32(12582912.0f))
#endif
#if defined(CN_ARM64_) || defined(__ARM_FEATURE_FMA)
#define cn_vfma_(a, b, c) vfmaq_f32(c, a, b)
#define cn_vfnma_(a, b, c) vfmsq_f32(c, a, b)
#else
#define cn_vfma_(a, b, c) vmlaq_f32(c, a, b)
#define cn_vfnma_(a, b, c) vmlsq_f32(c, a, b)
#endif
#define cn_vf_ float32x4_t
#define cn_vm_ int
#define cn_vb_ uint32x4_t
#define cn_vzero_() vdupq_n_f32(0.0f)
#define cn_vset_(x) vdupq_n_f32(x)
#define cn_vload_(p) vld1q_f32(p)
#define cn_vstore_(p, v) vst1q_f32(p, v)
#define cn_vfirst_(n) (n)
#define cn_vload_first_(p, m) CN_NAME_(cn_load_first_)(p, m)
#define cn_vstore_first_(p, v, m) CN_NAME_(cn_store_first_)(p, v, m)
#define cn_vadd_(a, b) vaddq_f32(a, b)
#define cn_vsub_(a, b) vsubq_f32(a, b)
#define cn_vmul_(a, b) vmulq_f32(a, b)
#define cn_vmax_(a, b) CN_NAME_(cn_max_)(a, b)
#define cn_vmin_(a, b) CN_NAME_(cn_min_)(a, b)
#define cn_vgreater_(a, b) vcgtq_f32(a, b)
#define cn_vequal_(a, b) vceqq_f32(a, b)
#define cn_vselect_(t, a, b) vbslq_f32(t, a, b)
#define cn_vpower2_(n)                                                                             \
  vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127)), 23))
#define cn_vload_bytes_(p, m) CN_NAME_(cn_load_bytes_)(p, m)
#define cn_vstore_bytes_(p, v, m) CN_NAME_(cn_store_bytes_)(p, v, m)

#elif CN_PASS_ == 4 /* WebAssembly's SIMD128 */
#define CN_NAME_(name) name##wasm128_
#define CN_LANES_ 4
#define CN_TILE_ROWS_ 6
#define CN_TILE_VECTORS_ 2
#define CN_SPARSE_VECTORS_ 8
#define cn_vf_ v128_t
#define cn_vm_ int
#define cn_vb_ v128_t
#define cn_vzero_() wasm_f32x4_splat(0.0f)
#define cn_vset_(x) wasm_f32x4_splat(x)
#define cn_vload_(p) wasm_v128_load(p)
#define cn_vstore_(p, v) wasm_v128_store(p, v)
#define cn_vfirst_(n) (n)
#define cn_vload_first_(p, m) CN_NAME_(cn_load_first_)(p, m)
#define cn_vstore_first_(p, v, m) CN_NAME_(cn_store_first_)(p, v, m)
#define cn_vadd_(a, b) wasm_f32x4_add(a, b)
#define cn_vsub_(a, b) wasm_f32x4_sub(a, b)
#define cn_vmul_(a, b) wasm_f32x4_mul(a, b)
#define cn_vdiv_(a, b) wasm_f32x4_div(a, b)
#define cn_vmax_(a, b) wasm_f32x4_pmax(b, a) /* a > b ? a : b */
#define cn_vmin_(a, b) wasm_f32x4_pmin(b, a)
#define cn_vsqrt_(a) wasm_f32x4_sqrt(a)
#define cn_vfma_(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(a, b), c)
#define cn_vfnma_(a, b, c) wasm_f32x4_sub(c, wasm_f32x4_mul(a, b))
#define cn_vgreater_(a, b) wasm_f32x4_gt(a, b)
#define cn_vequal_(a, b) wasm_f32x4_eq(a, b)
#define cn_vselect_(t, a, b) wasm_v128_bitselect(a, b, t)
#define cn_vround_(a) wasm_f32x4_nearest(a)
#define cn_vpower2_(n)                                                                             \
  wasm_i32x4_shl(wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(n), wasm_i32x4_splat(127)), 23)
#define cn_vload_bytes_(p, m) CN_NAME_(cn_load_bytes_)(p, m)
#define cn_vstore_bytes_(p, v, m) CN_NAME_(cn_store_bytes_)(p, v, m)

#else /* scalar: vectors of one lane */
#define CN_NAME_(name) name##scalar_
#define CN_LANES_ 1
#define CN_TILE_ROWS_ 2
#define CN_TILE_VECTORS_ 3
#define CN_SPARSE_VECTORS_ 9
#define cn_vf_ float
#define cn_vm_ int
#define cn_vb_ int
#define cn_vzero_() 0.0f
#define cn_vset_(x) (x)
#define cn_vload_(p) (*(p))
#define cn_vstore_(p, v) (void)(*(p) = (v))
#define cn_vfirst_(n) (n)
#define cn_vload_first_(p, m) ((void)(m), *(p)) /* the one lane there is */
#define cn_vstore_first_(p, v, m) ((void)(m), (void)(*(p) = (v)))
#define cn_vadd_(a, b) ((a) + (b))
#define cn_vsub_(a, b) ((a) - (b))
#define cn_vmul_(a, b) ((a) * (b))
#define cn_vdiv_(a, b) ((a) / (b))
#define cn_vmax_(a, b) CN_NAME_(cn_max_)(a, b)
#define cn_vmin_(a, b) CN_NAME_(cn_min_)(a, b)
#define cn_vsqrt_(a) sqrtf(a)
#define cn_vfma_(a, b, c) ((a) * (b) + (c))
#define cn_vfnma_(a, b, c) ((c) - (a) * (b))
#define cn_vgreater_(a, b) ((a) > (b))
#define cn_vequal_(a, b) ((a) == (b))
#define cn_vselect_(t, a, b) ((t) ? (a) : (b))
#define cn_vround_(a) floorf((a) + 0.5f)
#define cn_vpower2_(n) ((n) == (n) ? ldexpf(1.0f, (int)(n)) : (n))
#define cn_vload_bytes_(p, m) ((void)(m), (float)*(p))
#define cn_vstore_bytes_(p, v, m) ((void)(m), (void)(*(p) = (uint8_t)(v)))
#endif

/* What the vocabulary lacks as single instructions. */
#if CN_PASS_ == 2
static inline __m256i CN_NAME_(cn_lane_mask_)(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
/* Whole vectors without a mask: some processors take long over a masked store. */
static inline __m256 CN_NAME_(cn_load_first_)(const float *p, int n) {
  return n == 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, CN_NAME_(cn_lane_mask_)(n));
}
static inline void CN_NAME_(cn_store_first_)(float *p, __m256 v, int n) {
  if (n == 8)
    _mm256_storeu_ps(p, v);
  else
    _mm256_maskstore_ps(p, CN_NAME_(cn_lane_mask_)(n), v);
}
static inline __m256 CN_NAME_(cn_load_bytes_)(const uint8_t *p, int n) {
  uint8_t bytes[8] = {0};
  if (n < 8) memcpy(bytes, p, (size_t)n), p = bytes;
  return _mm256_cvtepi32_ps(
      _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p)));
}
static inline void CN_NAME_(cn_store_bytes_)(uint8_t *p, __m256 v, int n) {
  const __m256i words = _mm256_cvttps_epi32(v);
  const __m128i halves =
      _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  uint8_t bytes[8];
  _mm_storel_epi64((__m128i *)(void *)(n == 8 ? p : bytes), _mm_packus_epi16(halves, halves));
  if (n < 8) memcpy(p, bytes, (size_t)n);
}
#elif CN_PASS_ == 1
/* In registers: an array of lanes would make compilers move accumulators to memory. */
static inline float32x4_t CN_NAME_(cn_load_first_)(const float *p, int n) {
  float32x4_t v = vdupq_n_f32(0.0f);
  if (n == 4) return vld1q_f32(p);
  if (n & 2) v = vcombine_f32(vld1_f32(p), vdup_n_f32(0.0f));
  if (n == 1) v = vld1q_lane_f32(p, v, 0);
  if (n == 3) v = vld1q_lane_f32(p + 2, v, 2);
  return v;
}
static inline void CN_NAME_(cn_store_first_)(float *p, float32x4_t v, int n) {
  if (n == 4) {
    vst1q_f32(p, v);
    return;
  }
  if (n & 2) vst1_f32(p, vget_low_f32(v));
  if (n == 1) vst1q_lane_f32(p, v, 0);
  if (n == 3) vst1q_lane_f32(p + 2, v, 2);
}
/* Not vmaxq_f32: that one spreads NaN, this returns b where either is NaN, as x86 does. */
static inline float32x4_t CN_NAME_(cn_max_)(float32x4_t a, float32x4_t b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline float32x4_t CN_NAME_(cn_min_)(float32x4_t a, float32x4_t b) {
  return vbslq_f32(vcltq_f32(a, b), a, b);
}
#ifndef CN_ARM64_
static inline float32x4_t CN_NAME_(cn_div_)(float32x4_t a, float32x4_t b) {
  float over[4], under[4];
  int i;
  vst1q_f32(over, a), vst1q_f32(under, b);
  for (i = 0; i < 4; i++) over[i] /= under[i];
  return vld1q_f32(over);
}
static inline float32x4_t CN_NAME_(cn_sqrt_)(float32x4_t a) {
  float lanes[4];
  int i;
  vst1q_f32(lanes, a);
  for (i = 0; i < 4; i++) lanes[i] = sqrtf(lanes[i]);
  return vld1q_f32(lanes);
}
#endif
#elif CN_PASS_ == 4
static inline v128_t CN_NAME_(cn_load_first_)(const float *p, int n) {
  if (n == 4) return wasm_v128_load(p);
  if (n == 1) return wasm_v128_load32_zero(p);
  if (n == 2) return wasm_v128_load64_zero(p);
  return n == 3 ? wasm_v128_load32_lane(p + 2, wasm_v128_load64_zero(p), 2) : cn_vzero_();
}
static inline void CN_NAME_(cn_store_first_)(float *p, v128_t v, int n) {
  if (n == 4) wasm_v128_store(p, v);
  if (n == 1) wasm_v128_store32_lane(p, v, 0);
  if (n == 2 || n == 3) wasm_v128_store64_lane(p, v, 0);
  if (n == 3) wasm_v128_store32_lane(p + 2, v, 2);
}
#elif CN_PASS_ == 0
static inline float CN_NAME_(cn_max_)(float a, float b) {
  return a > b ? a : b;
}
static inline float CN_NAME_(cn_min_)(float a, float b) {
  return a < b ? a : b;
}
#endif
#if CN_PASS_ == 1 || CN_PASS_ == 4
static inline cn_vf_ CN_NAME_(cn_load_bytes_)(const uint8_t *p, int n) {
  float lanes[4] = {0, 0, 0, 0};
  int i;
  for (i = 0; i < n; i++) lanes[i] = (float)p[i];
  return cn_vload_(lanes);
}
static inline void CN_NAME_(cn_store_bytes_)(uint8_t *p, cn_vf_ v, int n) {
  float lanes[4];
  int i;
  cn_vstore_(lanes, v);
  for (i = 0; i < n; i++) p[i] = (uint8_t)lanes[i];
}
#endif

/* to[column][row] = from[row][column] of a square whose side is CN_SQUARE_. */
#if CN_PASS_ == 2 || CN_PASS_ == 3
#define CN_SQUARE_ 8
/* Rows i and i + 4 side by side: what is left are squares of 4 in the halves of a vector. In these,
   0x44 takes the first two of both operands, 0xEE the last two. */
#define CN_HALVES_(i, at)                                                                          \
  _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((at) + (i)*from_pitch)),                \
                       _mm_loadu_ps((at) + ((i) + 4) * from_pitch), 1)
static inline void CN_NAME_(cn_transpose_square_)(const float *from, ptrdiff_t from_pitch,
                                                  float *to, ptrdiff_t to_pitch) {
  int column;
  for (column = 0; column < 8; column += 4, from += 4, to += 4 * to_pitch) {
    const __m256 r0 = CN_HALVES_(0, from), r1 = CN_HALVES_(1, from), r2 = CN_HALVES_(2, from),
                 r3 = CN_HALVES_(3, from);
    const __m256 low01 = _mm256_unpacklo_ps(r0, r1), high01 = _mm256_unpackhi_ps(r0, r1),
                 low23 = _mm256_unpacklo_ps(r2, r3), high23 = _mm256_unpackhi_ps(r2, r3);
    _mm256_storeu_ps(to, _mm256_shuffle_ps(low01, low23, 0x44));
    _mm256_storeu_ps(to + to_pitch, _mm256_shuffle_ps(low01, low23, 0xEE));
    _mm256_storeu_ps(to + 2 * to_pitch, _mm256_shuffle_ps(high01, high23, 0x44));
    _mm256_storeu_ps(to + 3 * to_pitch, _mm256_shuffle_ps(high01, high23, 0xEE));
  }
}
#elif CN_PASS_ == 1
#define CN_SQUARE_ 4
static inline void CN_NAME_(cn_transpose_square_)(const float *from, ptrdiff_t from_pitch,
                                                  float *to, ptrdiff_t to_pitch) {
  const float32x4x2_t first = vtrnq_f32(vld1q_f32(from), vld1q_f32(from + from_pitch));
  const float32x4x2_t last =
      vtrnq_f32(vld1q_f32(from + 2 * from_pitch), vld1q_f32(from + 3 * from_pitch));
  vst1q_f32(to, vcombine_f32(vget_low_f32(first.val[0]), vget_low_f32(last.val[0])));
  vst1q_f32(to + to_pitch, vcombine_f32(vget_low_f32(first.val[1]), vget_low_f32(last.val[1])));
  vst1q_f32(to + 2 * to_pitch,
            vcombine_f32(vget_high_f32(first.val[0]), vget_high_f32(last.val[0])));
  vst1q_f32(to + 3 * to_pitch,
            vcombine_f32(vget_high_f32(first.val[1]), vget_high_f32(last.val[1])));
}
#elif CN_PASS_ == 4
#define CN_SQUARE_ 4
static inline void CN_NAME_(cn_transpose_square_)(const float *from, ptrdiff_t from_pitch,
                                                  float *to, ptrdiff_t to_pitch) {
  const v128_t r0 = wasm_v128_load(from), r1 = wasm_v128_load(from + from_pitch),
               r2 = wasm_v128_load(from + 2 * from_pitch),
               r3 = wasm_v128_load(from + 3 * from_pitch);
  const v128_t low01 = wasm_i32x4_shuffle(r0, r1, 0, 4, 1, 5),
               high01 = wasm_i32x4_shuffle(r0, r1, 2, 6, 3, 7),
               low23 = wasm_i32x4_shuffle(r2, r3, 0, 4, 1, 5),
               high23 = wasm_i32x4_shuffle(r2, r3, 2, 6, 3, 7);
  wasm_v128_store(to, wasm_i64x2_shuffle(low01, low23, 0, 2));
  wasm_v128_store(to + to_pitch, wasm_i64x2_shuffle(low01, low23, 1, 3));
  wasm_v128_store(to + 2 * to_pitch, wasm_i64x2_shuffle(high01, high23, 0, 2));
  wasm_v128_store(to + 3 * to_pitch, wasm_i64x2_shuffle(high01, high23, 1, 3));
}
#else
#define CN_SQUARE_ 1
static inline void CN_NAME_(cn_transpose_square_)(const float *from, ptrdiff_t from_pitch,
                                                  float *to, ptrdiff_t to_pitch) {
  (void)from_pitch, (void)to_pitch;
  *to = *from;
}
#endif

#define CN_PANEL_ (CN_LANES_ * CN_TILE_VECTORS_)
#if CN_SPARSE_VECTORS_ * CN_LANES_ > CN_LIST_COLUMNS_ || CN_SPARSE_VECTORS_ % CN_TILE_VECTORS_
#error "sparse_row computes whole panels, of at most CN_LIST_COLUMNS_"
#endif

/* Lanes in use of vector v when `columns` columns are left, between 0 and CN_LANES_. */
static inline int CN_NAME_(cn_lanes_left_)(int columns, int v) {
  int left = columns - v * CN_LANES_;
  return left < 0 ? 0 : left > CN_LANES_ ? CN_LANES_ : left;
}

#define CN_TILES_(R)                                                                               \
  CN_PRODUCT_TILE_(R, 1)                                                                           \
  CN_PRODUCT_TILE_(R, 2)                                                                           \
  CN_OUTER_TILE_(R, 1)                                                                             \
  CN_OUTER_TILE_(R, 2)                                                                             \
  CN_TILES_3_(R)
#if CN_TILE_VECTORS_ == 3
#define CN_TILES_3_(R) CN_PRODUCT_TILE_(R, 3) CN_OUTER_TILE_(R, 3)
#define CN_TILE_TABLE_(kind, R)                                                                    \
  {                                                                                                \
    CN_NAME_(cn_##kind##_tile_##R##x1_), CN_NAME_(cn_##kind##_tile_##R##x2_),                      \
        CN_NAME_(cn_##kind##_tile_##R##x3_)                                                        \
  }
#else
#define CN_TILES_3_(R)
#define CN_TILE_TABLE_(kind, R)                                                                    \
  { CN_NAME_(cn_##kind##_tile_##R##x1_), CN_NAME_(cn_##kind##_tile_##R##x2_), NULL }
#endif

CN_TILES_(1)
CN_TILES_(2)
#if CN_TILE_ROWS_ >= 6
CN_TILES_(3)
CN_TILES_(4)
CN_TILES_(5)
CN_TILES_(6)
#endif
#if CN_TILE_ROWS_ >= 7
CN_TILES_(7)
#endif
#if CN_TILE_ROWS_ >= 14
CN_TILES_(8)
CN_TILES_(9)
CN_TILES_(10)
CN_TILES_(11)
CN_TILES_(12)
CN_TILES_(13)
CN_TILES_(14)
#endif

#define CN_TILE_TABLE_2_(kind) CN_TILE_TABLE_(kind, 1), CN_TILE_TABLE_(kind, 2)
#if CN_TILE_ROWS_ >= 6
#define CN_TILE_TABLE_6_(kind)                                                                     \
  CN_TILE_TABLE_2_(kind), CN_TILE_TABLE_(kind, 3), CN_TILE_TABLE_(kind, 4),                        \
      CN_TILE_TABLE_(kind, 5), CN_TILE_TABLE_(kind, 6)
#else
#define CN_TILE_TABLE_6_(kind) CN_TILE_TABLE_2_(kind)
#endif
#if CN_TILE_ROWS_ >= 7
#define CN_TILE_TABLE_7_(kind) CN_TILE_TABLE_6_(kind), CN_TILE_TABLE_(kind, 7)
#else
#define CN_TILE_TABLE_7_(kind) CN_TILE_TABLE_6_(kind)
#endif
#if CN_TILE_ROWS_ >= 14
#define CN_TILE_TABLE_14_(kind)                                                                    \
  CN_TILE_TABLE_7_(kind), CN_TILE_TABLE_(kind, 8), CN_TILE_TABLE_(kind, 9),                        \
      CN_TILE_TABLE_(kind, 10), CN_TILE_TABLE_(kind, 11), CN_TILE_TABLE_(kind, 12),                \
      CN_TILE_TABLE_(kind, 13), CN_TILE_TABLE_(kind, 14)
#else
#define CN_TILE_TABLE_14_(kind) CN_TILE_TABLE_7_(kind)
#endif

/* Rows of the next tile when `rows` are left: as even as can be, so that no tile is left with
   few. */
static inline int CN_NAME_(cn_next_rows_)(int rows) {
  int tiles = (rows + CN_TILE_ROWS_ - 1) / CN_TILE_ROWS_;
  return (rows + tiles - 1) / tiles;
}

static inline int CN_NAME_(cn_vectors_of_)(int columns) {
  int vectors = (columns + CN_LANES_ - 1) / CN_LANES_;
  return vectors < CN_TILE_VECTORS_ ? vectors : CN_TILE_VECTORS_;
}

#if CN_TILE_VECTORS_ == 3
#define CN_EACH_PANEL_VECTOR_ CN_EACH_COLUMN_3_
#else
#define CN_EACH_PANEL_VECTOR_ CN_EACH_COLUMN_2_
#endif
#define CN_WIDE_ROWS_ 2   /* up to this many rows are done one by one over several panels */
#define CN_WIDE_PANELS_ 5 /* at most */
CN_PRODUCT_WIDE_(2)
CN_PRODUCT_WIDE_(3)
CN_PRODUCT_WIDE_(4)
CN_PRODUCT_WIDE_(5)

typedef void (*CN_NAME_(cn_product_function_))(const cn_product_ *, const float *, const float *,
                                               const float *, float *, int);

/* Few rows over the panels from `column` on. Returns the panels done, 0 when a tile is as good. */
static int CN_NAME_(cn_product_few_rows_)(const cn_product_ *product, int column,
                                          const float *packed) {
  static const CN_NAME_(cn_product_function_)
      wide[CN_WIDE_PANELS_ - 1] = {CN_NAME_(cn_product_wide_2_), CN_NAME_(cn_product_wide_3_),
                                   CN_NAME_(cn_product_wide_4_), CN_NAME_(cn_product_wide_5_)};
  const int left = product->columns - column, vectors = (left + CN_LANES_ - 1) / CN_LANES_;
  int panels = vectors / CN_TILE_VECTORS_, row; /* whole ones */
  if (panels > CN_WIDE_PANELS_) panels = CN_WIDE_PANELS_;
  if (product->rows > CN_WIDE_ROWS_ || panels < 2) return 0;
  for (row = 0; row < product->rows; row++)
    wide[panels - 2](
        product, product->a + row * product->a_stride, packed,
        product->bias ? product->bias + column : NULL,
        product->c + row * product->c_stride + column,
        CN_NAME_(cn_lanes_left_)(left - (panels - 1) * CN_PANEL_, CN_TILE_VECTORS_ - 1));
  return panels;
}

/* c[rows][columns] = a * packed + bias over all panels of the packed matrix. */
static void CN_NAME_(cn_product_)(const cn_product_ *product) {
  static const CN_NAME_(cn_product_function_)
      tiles[CN_TILE_ROWS_][3] = {CN_TILE_TABLE_14_(product)};
  const float *packed = product->packed;
  int column = 0;
  while (column < product->columns) {
    const int vectors = CN_NAME_(cn_vectors_of_)(product->columns - column);
    const int panels = CN_NAME_(cn_product_few_rows_)(product, column, packed);
    const int last_lanes = CN_NAME_(cn_lanes_left_)(product->columns - column, vectors - 1);
    const float *bias = product->bias ? product->bias + column : NULL;
    int row = 0;
    while (row < product->rows && panels == 0) {
      const int rows = CN_NAME_(cn_next_rows_)(product->rows - row);
      tiles[rows - 1][vectors - 1](product, product->a + row * product->a_stride, packed, bias,
                                   product->c + row * product->c_stride + column, last_lanes);
      row += rows;
    }
    packed +=
        (ptrdiff_t)product->packed_depth * (panels ? panels * CN_PANEL_ : vectors * CN_LANES_);
    column += panels ? panels * CN_PANEL_ : CN_PANEL_;
  }
}

static void CN_NAME_(cn_outer_)(const cn_outer_ *outer) {
  typedef void (*tile_function)(const cn_outer_ *, const float *, const float *, float *, int);
  static const tile_function tiles[CN_TILE_ROWS_][3] = {CN_TILE_TABLE_14_(outer)};
  int column;
  for (column = 0; column < outer->columns; column += CN_PANEL_) {
    const int vectors = CN_NAME_(cn_vectors_of_)(outer->columns - column);
    const int last_lanes = CN_NAME_(cn_lanes_left_)(outer->columns - column, vectors - 1);
    int row = 0;
    while (row < outer->rows) {
      int rows = CN_NAME_(cn_next_rows_)(outer->rows - row);
      tiles[rows - 1][vectors - 1](outer, outer->a + row, outer->b + column,
                                   outer->c + row * outer->c_stride + column, last_lanes);
      row += rows;
    }
  }
}

/* to[column][row] = from[row][column]; pitches in floats. */
static void CN_NAME_(cn_transpose_)(const float *from, ptrdiff_t from_pitch, int rows, int columns,
                                    float *to, ptrdiff_t to_pitch) {
  int row, column, i, j;
  for (row = 0; row < rows; row += CN_SQUARE_) {
    for (column = 0; column < columns; column += CN_SQUARE_) {
      const float *corner = from + row * from_pitch + column;
      float *to_corner = to + column * to_pitch + row;
      if (row + CN_SQUARE_ <= rows && column + CN_SQUARE_ <= columns)
        CN_NAME_(cn_transpose_square_)(corner, from_pitch, to_corner, to_pitch);
      else
        for (i = 0; i < cn_min_(CN_SQUARE_, rows - row); i++)
          for (j = 0; j < cn_min_(CN_SQUARE_, columns - column); j++)
            to_corner[j * to_pitch + i] = corner[i * from_pitch + j];
    }
  }
}

/* Packs matrix [depth][columns], value (k, j) at source[k * row_stride + j * column_stride], of
   which one is 1, into panels of CN_PANEL_ columns, the last narrower, zero behind its end. */
static void CN_NAME_(cn_pack_matrix_)(const float *source, ptrdiff_t row_stride,
                                      ptrdiff_t column_stride, int depth, int columns,
                                      float *packed) {
  int column, j;
  ptrdiff_t k;
  CN_ASSERT(row_stride == 1 || column_stride == 1);
  for (column = 0; column < columns; column += CN_PANEL_, source += CN_PANEL_ * column_stride) {
    const int width = CN_NAME_(cn_vectors_of_)(columns - column) * CN_LANES_;
    const int left = cn_min_(columns - column, width);
    if (column_stride == 1) {
      for (k = 0; k < depth; k++)
        for (j = 0; j < width; j += CN_LANES_)
          cn_vstore_(packed + k * width + j,
                     cn_vload_first_(source + k * row_stride + j,
                                     cn_vfirst_(CN_NAME_(cn_lanes_left_)(left - j, 0))));
    } else {
      CN_NAME_(cn_transpose_)(source, column_stride, left, depth, packed, width);
      for (k = 0; k < depth; k++)
        for (j = left; j < width; j++) packed[k * width + j] = 0.0f;
    }
    packed += (ptrdiff_t)depth * width;
  }
}

/* ---- 2x2 max pooling of two finished rows of a convolution ---- */

static void CN_NAME_(cn_pool_rows_)(const float *rows, ptrdiff_t pitch, int width, int channels,
                                    float *y, uint8_t *argmax) {
  const cn_vf_ one = cn_vset_(1.0f), two = cn_vset_(2.0f), three = cn_vset_(3.0f);
  const cn_vf_ lowest = cn_vset_(-INFINITY); /* the larger of NaN and this is this */
  int x, c;
  for (x = 0; x < width; x++, rows += 2 * channels, y += channels) {
    for (c = 0; c < channels; c += CN_LANES_) {
      const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(channels - c, 0));
      const float *top = rows + c, *bottom = rows + pitch + c;
      cn_vf_ best = cn_vmax_(cn_vload_first_(top, mask), lowest), place = cn_vzero_(), v;
      cn_vb_ larger;
      v = cn_vload_first_(top + channels, mask), larger = cn_vgreater_(v, best);
      best = cn_vmax_(v, best), place = cn_vselect_(larger, one, place);
      v = cn_vload_first_(bottom, mask), larger = cn_vgreater_(v, best);
      best = cn_vmax_(v, best), place = cn_vselect_(larger, two, place);
      v = cn_vload_first_(bottom + channels, mask), larger = cn_vgreater_(v, best);
      best = cn_vmax_(v, best), place = cn_vselect_(larger, three, place);
      cn_vstore_first_(y + c, best, mask);
      if (argmax) cn_vstore_bytes_(argmax + c, place, mask);
    }
    if (argmax) argmax += channels;
  }
}

/* The reverse: dz[2][2 * width] of one row of pooled gradients, zero where the maximum was not. */
static void CN_NAME_(cn_unpool_row_)(const float *dy, const uint8_t *argmax, int width,
                                     int channels, float *dz, ptrdiff_t pitch) {
  const cn_vf_ zero = cn_vzero_(), one = cn_vset_(1.0f), two = cn_vset_(2.0f),
               three = cn_vset_(3.0f);
  int x, c;
  for (x = 0; x < width; x++, dy += channels, argmax += channels, dz += 2 * channels) {
    for (c = 0; c < channels; c += CN_LANES_) {
      const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(channels - c, 0));
      const cn_vf_ g = cn_vload_first_(dy + c, mask), place = cn_vload_bytes_(argmax + c, mask);
      cn_vstore_first_(dz + c, cn_vselect_(cn_vequal_(place, zero), g, zero), mask);
      cn_vstore_first_(dz + channels + c, cn_vselect_(cn_vequal_(place, one), g, zero), mask);
      cn_vstore_first_(dz + pitch + c, cn_vselect_(cn_vequal_(place, two), g, zero), mask);
      cn_vstore_first_(dz + pitch + channels + c, cn_vselect_(cn_vequal_(place, three), g, zero),
                       mask);
    }
  }
}

/* ---- gradients of which most are zero ---- */

/* How many of values[rows][columns] are zero: fewer than 2^24 a lane, which floats count
   exactly. */
static size_t CN_NAME_(cn_zeros_)(const float *values, ptrdiff_t pitch, int rows, int columns) {
  cn_vf_ zeros = cn_vzero_();
  float lanes[CN_LANES_];
  size_t count = 0;
  int row, i;
  for (row = 0; row < rows; row++, values += pitch) {
    for (i = 0; i + CN_LANES_ <= columns; i += CN_LANES_)
      zeros = cn_vadd_(zeros, cn_vselect_(cn_vequal_(cn_vload_(values + i), cn_vzero_()),
                                          cn_vset_(1.0f), cn_vzero_()));
    for (; i < columns; i++) count += values[i] == 0.0f;
  }
  cn_vstore_(lanes, zeros);
  for (i = 0; i < CN_LANES_; i++) count += (size_t)lanes[i];
  return count;
}

/* Lists the values that are not zero, each with its offset; returns how many. Writes up to
   CN_LIST_SLACK_ spikes more. */
static int CN_NAME_(cn_list_)(const float *values, const uint32_t *offsets, int n,
                              cn_spike_ *spikes) {
  int count = 0, i;
#if CN_PASS_ == 3
  const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i second =
      _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
  for (i = 0; i < n; i += 16) {
    const __mmask16 inside = cn_vfirst_(cn_min_(16, n - i));
    const __m512 value = _mm512_maskz_loadu_ps(inside, values + i);
    const __mmask16 some = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_NEQ_UQ);
    const __m512i gradient = _mm512_castps_si512(_mm512_maskz_compress_ps(some, value));
    const __m512i offset =
        _mm512_maskz_compress_epi32(some, _mm512_maskz_loadu_epi32(inside, offsets + i));
    _mm512_storeu_si512(spikes + count, _mm512_permutex2var_epi32(offset, first, gradient));
    _mm512_storeu_si512(spikes + count + 8, _mm512_permutex2var_epi32(offset, second, gradient));
    count += (int)_mm_popcnt_u32(_cvtmask16_u32(some));
  }
#else
  for (i = 0; i < n; i++) {
    uint32_t bits;
    memcpy(&bits, values + i, sizeof bits);
    spikes[count].offset = offsets[i], spikes[count].gradient = values[i];
    count += (bits & 0x7FFFFFFFu) != 0; /* faster than comparing with 0.0f, which sees NaN */
  }
#endif
  return count;
}

#define CN_SPARSE_ROW_DECLARE_(i)                                                                  \
  cn_vf_ s##i = accumulate ? cn_vload_(sum + (i)*CN_LANES_) : cn_vzero_();
#define CN_SPARSE_ROW_ADD_(i)                                                                      \
  s##i = cn_vfma_(                                                                                 \
      g, cn_vload_(from + (i) / CN_TILE_VECTORS_ * panel + (i) % CN_TILE_VECTORS_ * CN_LANES_),    \
      s##i);
#define CN_SPARSE_ROW_STORE_(i) cn_vstore_(sum + (i)*CN_LANES_, s##i);
#define CN_SPARSE_ROW_BODY_(EACH)                                                                  \
  EACH(CN_SPARSE_ROW_DECLARE_)                                                                     \
  for (i = 0; i < count; i++) {                                                                    \
    const float *from = rows + spikes[i].offset;                                                   \
    const cn_vf_ g = cn_vset_(spikes[i].gradient);                                                 \
    EACH(CN_SPARSE_ROW_ADD_)                                                                       \
  }                                                                                                \
  EACH(CN_SPARSE_ROW_STORE_)

/* sum[CN_SPARSE_VECTORS_ * CN_LANES_] (+)= gradient * the row at offset, over all spikes; a row
   lies in pieces of CN_PANEL_ floats, `panel` floats apart. */
static void CN_NAME_(cn_sparse_row_)(const cn_spike_ *spikes, int count, const float *rows,
                                     ptrdiff_t panel, int accumulate, float *sum) {
  int i;
#if CN_SPARSE_VECTORS_ == 4
  CN_SPARSE_ROW_BODY_(CN_EACH_ROW_4_)
#elif CN_SPARSE_VECTORS_ == 8
  CN_SPARSE_ROW_BODY_(CN_EACH_ROW_8_)
#else
  CN_SPARSE_ROW_BODY_(CN_EACH_ROW_9_)
#endif
}

/* ---- weight gradients behind 2x2 max pooling: only one position in four has a gradient ---- */

/* For each filter the list of its gradients that are not zero and where their windows begin in a
   block of channels. */
static void CN_NAME_(cn_find_spikes_)(const cn_pooled_ *p, cn_spike_ *spikes, int *counts) {
  int filter, row, column;
  memset(counts, 0, (size_t)p->filters * sizeof *counts);
#if CN_PASS_ == 3
  {
    const int windows = p->height * p->width;
    enum { most = 64 }; /* windows at a time, of 16 filters */
    const __m512i corners =
        _mm512_setr_epi32(0, (int)p->step_x, (int)p->step_y, (int)(p->step_y + p->step_x), 0, 0, 0,
                          0, 0, 0, 0, 0, 0, 0, 0, 0);
    float offsets[most * 16], turned_offsets[16 * most], turned_dy[16 * most];
    int first, i;
    for (first = 0; first < windows; first += most) {
      const int n = cn_min_(most, windows - first);
      for (filter = 0; filter < p->filters; filter += 16) {
        const int filters = cn_min_(16, p->filters - filter);
        const ptrdiff_t at = (ptrdiff_t)first * p->filters + filter;
        row = first / p->width, column = first % p->width;
        for (i = 0; i < n; i++) {
          const uint32_t corner = 2 * (uint32_t)row * p->step_y + 2 * (uint32_t)column * p->step_x;
          const __m512i place = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(
              cn_vfirst_(filters), p->argmax + at + (ptrdiff_t)i * p->filters));
          _mm512_storeu_si512(offsets + 16 * i,
                              _mm512_add_epi32(_mm512_permutexvar_epi32(place, corners),
                                               _mm512_set1_epi32((int)corner)));
          if (++column == p->width) column = 0, row++;
        }
        CN_NAME_(cn_transpose_)(offsets, 16, n, filters, turned_offsets, most);
        CN_NAME_(cn_transpose_)(p->dy + at, p->filters, n, filters, turned_dy, most);
        for (i = 0; i < filters; i++)
          counts[filter + i] += CN_NAME_(cn_list_)(
              turned_dy + i * most, (const uint32_t *)(const void *)(turned_offsets + i * most), n,
              spikes + (filter + i) * p->places + counts[filter + i]);
      }
    }
  }
#else
  {
    const float *dy = p->dy;
    const uint8_t *argmax = p->argmax;
    const uint32_t corner[4] = {0, p->step_x, p->step_y, p->step_y + p->step_x};
    for (row = 0; row < p->height; row++) {
      for (column = 0; column < p->width; column++, dy += p->filters, argmax += p->filters) {
        const uint32_t at = 2 * (uint32_t)row * p->step_y + 2 * (uint32_t)column * p->step_x;
        for (filter = 0; filter < p->filters; filter++) {
          cn_spike_ *spike = spikes + filter * p->places + counts[filter];
          spike->offset = at + corner[argmax[filter]], spike->gradient = dy[filter];
          counts[filter] += dy[filter] != 0.0f;
        }
      }
    }
  }
#endif
}

/* block[pixels][lanes] = n channels of x [pixels][channels], zero behind them. */
static void CN_NAME_(cn_channel_block_)(const float *x, size_t pixels, int channels, int n,
                                        float *block) {
  const cn_vm_ mask = cn_vfirst_(n);
  for (; pixels > 0; pixels--, x += channels, block += CN_LANES_)
    cn_vstore_(block, cn_vload_first_(x, mask));
}

#define CN_SPARSE_DECLARE_(i) cn_vf_ s##i = cn_vload_(sum + (i)*CN_LANES_);
#define CN_SPARSE_ADD_(i) s##i = cn_vfma_(g, cn_vload_(from + (i)*CN_LANES_), s##i);
#define CN_SPARSE_ADD_3X3_(i)                                                                      \
  s##i = cn_vfma_(g, cn_vload_(from + (i) / 3 * row + (i) % 3 * CN_LANES_), s##i);
#define CN_SPARSE_STORE_(i) cn_vstore_(sum + (i)*CN_LANES_, s##i);
#define CN_SPARSE_(V, name, ADD)                                                                   \
  static void CN_NAME_(name)(const cn_spike_ *spikes, int count, const float *x, ptrdiff_t row,    \
                             float *sum) {                                                         \
    int i;                                                                                         \
    (void)row;                                                                                     \
    CN_EACH_ROW_##V##_(CN_SPARSE_DECLARE_) for (i = 0; i < count; i++) {                           \
      const float *from = x + spikes[i].offset;                                                    \
      const cn_vf_ g = cn_vset_(spikes[i].gradient);                                               \
      CN_EACH_ROW_##V##_(ADD)                                                                      \
    }                                                                                              \
    CN_EACH_ROW_##V##_(CN_SPARSE_STORE_)                                                           \
  }
CN_SPARSE_(1, cn_sparse_1_, CN_SPARSE_ADD_)
CN_SPARSE_(2, cn_sparse_2_, CN_SPARSE_ADD_)
CN_SPARSE_(5, cn_sparse_5_, CN_SPARSE_ADD_)
CN_SPARSE_(9, cn_sparse_3x3_, CN_SPARSE_ADD_3X3_)

/* sum[height][width][lanes] += gradient * x[offset + ...] over all spikes; x is a block of
   channels, `row` floats from one of the window's rows to the next. */
static void CN_NAME_(cn_sparse_)(const cn_spike_ *spikes, int count, const float *x, ptrdiff_t row,
                                 int height, int width, float *sum) {
  int ky, left;
  if (height == 3 && width == 3) {
    CN_NAME_(cn_sparse_3x3_)(spikes, count, x, row, sum);
    return;
  }
  for (ky = 0; ky < height; ky++) {
    const float *from = x + ky * row;
    for (left = width; left > 0;) {
      const int taps = left >= 5 ? 5 : left >= 2 ? 2 : 1;
      if (taps == 5)
        CN_NAME_(cn_sparse_5_)(spikes, count, from, row, sum);
      else if (taps == 2)
        CN_NAME_(cn_sparse_2_)(spikes, count, from, row, sum);
      else
        CN_NAME_(cn_sparse_1_)(spikes, count, from, row, sum);
      left -= taps, from += taps * CN_LANES_, sum += taps * CN_LANES_;
    }
  }
}

/* The same for few input channels, with the filters as lanes: dw[tap][filters] += over the pooled
   image, for up to nine taps at offsets taps[] from the window's first value of x. */
#define CN_FEW_DECLARE_(i) cn_vf_ s##i = cn_vzero_();
#define CN_FEW_ADD_(i) s##i = cn_vfma_(at, cn_vset_(from[taps[i]]), s##i);
#define CN_FEW_STORE_(i)                                                                           \
  if ((i) < count)                                                                                 \
    cn_vstore_first_(dw + (i)*filters + c,                                                         \
                     cn_vadd_(s##i, cn_vload_first_(dw + (i)*filters + c, mask)), mask);
#if CN_PASS_ == 3
/* On one channel a window's 4x4 pixels fit one vector, and each filter picks its own by a
   permutation. */
#define CN_FEW_PERMUTE_(i)                                                                         \
  s##i = cn_vfma_(g,                                                                               \
                  _mm512_permutexvar_ps(                                                           \
                      _mm512_add_epi32(place, _mm512_set1_epi32((i) / 3 * 4 + (i) % 3)), pixels),  \
                  s##i);
static void CN_NAME_(cn_few_grey_)(const cn_few_ *few, float *dw) {
  const int filters = few->filters, count = 9;
  int c, y, x;
  for (c = 0; c < filters; c += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(filters - c, 0));
    const float *dy = few->dy + c;
    const uint8_t *argmax = few->argmax + c;
    CN_EACH_ROW_9_(CN_FEW_DECLARE_)
    for (y = 0; y < few->height; y++) {
      const float *from = few->x + 2 * y * few->y_step;
      for (x = 0; x < few->width; x++, from += 2, dy += filters, argmax += filters) {
        const __m256 top = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from)),
                                                _mm_loadu_ps(from + few->y_step), 1);
        const __m256 bottom =
            _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + 2 * few->y_step)),
                                 _mm_loadu_ps(from + 3 * few->y_step), 1);
        const __m512 pixels = _mm512_insertf32x8(_mm512_castps256_ps512(top), bottom, 1);
        const __m512i argmaxes = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, argmax));
        const __m512i second = _mm512_srli_epi32(argmaxes, 1); /* row of the four: 0 or 1 */
        const __m512i place = _mm512_add_epi32(argmaxes, _mm512_add_epi32(second, second));
        const cn_vf_ g = cn_vload_first_(dy, mask);
        CN_EACH_ROW_9_(CN_FEW_PERMUTE_)
      }
    }
    CN_EACH_ROW_9_(CN_FEW_STORE_)
  }
}
#endif

static void CN_NAME_(cn_few_)(const cn_few_ *few, const ptrdiff_t *some_taps, int count,
                              float *dw) {
  const int filters = few->filters;
  ptrdiff_t taps[9];
  int c, y, x, place, i;
#if CN_PASS_ == 3
  if (few->grey) {
    CN_NAME_(cn_few_grey_)(few, dw);
    return;
  }
#endif
  for (i = 0; i < 9; i++) taps[i] = i < count ? some_taps[i] : some_taps[0];
  for (c = 0; c < filters; c += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(filters - c, 0));
    CN_EACH_ROW_9_(CN_FEW_DECLARE_)
    for (y = 0; y < few->height; y++) {
      for (x = 0; x < few->width; x++) {
        const size_t at_pool = (size_t)(y * few->width + x) * (size_t)filters + (size_t)c;
        const cn_vf_ g = cn_vload_first_(few->dy + at_pool, mask);
        const cn_vf_ places = cn_vload_bytes_(few->argmax + at_pool, mask);
        for (place = 0; place < 4; place++) {
          const cn_vf_ at = cn_vselect_(cn_vequal_(places, cn_vset_((float)place)), g, cn_vzero_());
          const float *from =
              few->x + (2 * y + (place >> 1)) * few->y_step + (2 * x + (place & 1)) * few->x_step;
          CN_EACH_ROW_9_(CN_FEW_ADD_)
        }
      }
    }
    CN_EACH_ROW_9_(CN_FEW_STORE_)
  }
}

/* ---- Winograd: Y = A^T [(G g G^T) . (B^T d B)] A on tiles (Lavin & Gray 2015) ----
   v[p * plane] receives position p of a patch, transformed, for all channels. */

/* B^T of F(2, 3) with points 0, 1, -1, infinity. */
#define CN_INPUT2_(d0, d1, d2, d3, r0, r1, r2, r3)                                                 \
  r0 = cn_vsub_(d0, d2), r1 = cn_vadd_(d1, d2), r2 = cn_vsub_(d2, d1), r3 = cn_vsub_(d3, d1)
/* B^T of F(4, 3) with points 0, +-1/sqrt(2), +-sqrt(2), infinity: its first and its last three
   rows. */
#define CN_INPUT4_FIRST_(d0, d1, d2, d3, d4, r0, r1, r2)                                           \
  do {                                                                                             \
    const cn_vf_ u = cn_vfnma_(cn_vset_(2.0f), d2, d4), q = cn_vfnma_(cn_vset_(2.0f), d1, d3);     \
    r0 = cn_vadd_(cn_vfnma_(cn_vset_(2.5f), d2, d4), d0);                                          \
    r1 = cn_vfma_(cn_vset_(CN_HALF_ROOT2_), q, u), r2 = cn_vfnma_(cn_vset_(CN_HALF_ROOT2_), q, u); \
  } while (0)
#define CN_INPUT4_LAST_(d1, d2, d3, d4, d5, r3, r4, r5)                                            \
  do {                                                                                             \
    const cn_vf_ w = cn_vfnma_(cn_vset_(0.5f), d2, d4), z = cn_vfnma_(cn_vset_(0.5f), d1, d3);     \
    r3 = cn_vfma_(cn_vset_(CN_ROOT2_), z, w), r4 = cn_vfnma_(cn_vset_(CN_ROOT2_), z, w);           \
    r5 = cn_vadd_(cn_vfnma_(cn_vset_(2.5f), d3, d5), d1);                                          \
  } while (0)

/* G of F(2, 3) and F(4, 3). */
#define CN_WEIGHTS2_(g0, g1, g2, r)                                                                \
  do {                                                                                             \
    const cn_vf_ even = cn_vmul_(cn_vset_(0.5f), cn_vadd_(g0, g2)),                                \
                 odd = cn_vmul_(cn_vset_(0.5f), g1);                                               \
    (r)[0] = g0, (r)[1] = cn_vadd_(even, odd), (r)[2] = cn_vsub_(even, odd), (r)[3] = g2;          \
  } while (0)
#define CN_WEIGHTS4_(g0, g1, g2, r)                                                                \
  do {                                                                                             \
    const cn_vf_ inner = cn_vmul_(cn_vset_(-2.0f / 3.0f), cn_vfma_(cn_vset_(0.5f), g2, g0));       \
    const cn_vf_ inner_odd = cn_vmul_(cn_vset_(-2.0f / 3.0f * CN_HALF_ROOT2_), g1);                \
    const cn_vf_ outer = cn_vmul_(cn_vset_(1.0f / 6.0f), cn_vfma_(cn_vset_(2.0f), g2, g0));        \
    const cn_vf_ outer_odd = cn_vmul_(cn_vset_(1.0f / 6.0f * CN_ROOT2_), g1);                      \
    (r)[0] = g0, (r)[1] = cn_vadd_(inner, inner_odd), (r)[2] = cn_vsub_(inner, inner_odd);         \
    (r)[3] = cn_vadd_(outer, outer_odd), (r)[4] = cn_vsub_(outer, outer_odd), (r)[5] = g2;         \
  } while (0)

/* Transforms the 3x3 filters at[0..8] of n neighbouring columns; position p goes to u + p * plane,
   zero up to a whole vector. height and width: results of a tile, 2 or 4. */
static void CN_NAME_(cn_winograd_weights_)(int height, int width, const float *const *at, int n,
                                           float *u, ptrdiff_t plane) {
  int c, i, j;
  for (c = 0; c < n; c += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(n - c, 0));
    cn_vf_ t[3][6], r[6];
    for (i = 0; i < 3; i++) {
      const cn_vf_ g0 = cn_vload_first_(at[i] + c, mask), g1 = cn_vload_first_(at[3 + i] + c, mask);
      const cn_vf_ g2 = cn_vload_first_(at[6 + i] + c, mask);
      if (height == 2)
        CN_WEIGHTS2_(g0, g1, g2, t[i]);
      else
        CN_WEIGHTS4_(g0, g1, g2, t[i]);
    }
    for (i = 0; i < height + 2; i++) {
      if (width == 2)
        CN_WEIGHTS2_(t[0][i], t[1][i], t[2][i], r);
      else
        CN_WEIGHTS4_(t[0][i], t[1][i], t[2][i], r);
      for (j = 0; j < width + 2; j++) cn_vstore_(u + (i * (width + 2) + j) * plane + c, r[j]);
    }
  }
}

/* Written once for all sizes; compiled for each, so that the loops' lengths are known, and apart
   from the loop over channels, or a compiler keeps all addresses during that loop. */
#define CN_PATCH_AT_(k) cn_vload_first_(patch->rows[k] + at, mask)
#define CN_INPUT_COLUMN_(i)                                                                        \
  if ((i) < columns) {                                                                             \
    if ((i) < patch->first || (i) >= patch->end) {                                                 \
      t[0][i] = t[1][i] = t[2][i] = t[3][i] = cn_vzero_();                                         \
    } else {                                                                                       \
      const cn_vf_ d1 = CN_PATCH_AT_(1), d2 = CN_PATCH_AT_(2), d3 = CN_PATCH_AT_(3);               \
      if (height == 2) {                                                                           \
        const cn_vf_ d0 = CN_PATCH_AT_(0);                                                         \
        CN_INPUT2_(d0, d1, d2, d3, t[0][i], t[1][i], t[2][i], t[3][i]);                            \
      } else if (first == 0) {                                                                     \
        const cn_vf_ d0 = CN_PATCH_AT_(0), d4 = CN_PATCH_AT_(4);                                   \
        CN_INPUT4_FIRST_(d0, d1, d2, d3, d4, t[0][i], t[1][i], t[2][i]);                           \
      } else {                                                                                     \
        const cn_vf_ d4 = CN_PATCH_AT_(4), d5 = CN_PATCH_AT_(5);                                   \
        CN_INPUT4_LAST_(d1, d2, d3, d4, d5, t[0][i], t[1][i], t[2][i]);                            \
      }                                                                                            \
      at += patch->column_stride;                                                                  \
    }                                                                                              \
  }
/* Stores a row of a transformed patch's positions for tiles of `size` results a side. */
#define CN_STORE_POSITIONS_(size, to)                                                              \
  do {                                                                                             \
    cn_vstore_(to, r0), to += plane, cn_vstore_(to, r1), to += plane;                              \
    cn_vstore_(to, r2), to += plane, cn_vstore_(to, r3), to += plane;                              \
    if ((size) == 4) cn_vstore_(to, r4), to += plane, cn_vstore_(to, r5), to += plane;             \
  } while (0)
#define CN_INPUT_ROW_(i)                                                                           \
  if ((i) < rows) {                                                                                \
    cn_vf_ r0, r1, r2, r3, r4, r5;                                                                 \
    if (width == 2) {                                                                              \
      CN_INPUT2_(t[i][0], t[i][1], t[i][2], t[i][3], r0, r1, r2, r3);                              \
    } else {                                                                                       \
      CN_INPUT4_FIRST_(t[i][0], t[i][1], t[i][2], t[i][3], t[i][4], r0, r1, r2);                   \
      CN_INPUT4_LAST_(t[i][1], t[i][2], t[i][3], t[i][4], t[i][5], r3, r4, r5);                    \
    }                                                                                              \
    CN_STORE_POSITIONS_(width, to);                                                                \
  }

/* Rows of a transformed patch from `first` on, of one vector of channels: all four, or three of
   six, as more would not find room in the registers. */
static CN_ALWAYS_INLINE_ void CN_NAME_(cn_input_rows_)(int height, int width, int first,
                                                       const cn_patch_ *patch, ptrdiff_t at,
                                                       cn_vm_ mask, float *to, ptrdiff_t plane) {
  const int columns = width + 2, rows = height == 2 ? 4 : 3;
  cn_vf_ t[4][6];
  CN_EACH_ROW_6_(CN_INPUT_COLUMN_)
  CN_EACH_ROW_4_(CN_INPUT_ROW_)
}
static CN_ALWAYS_INLINE_ void CN_NAME_(cn_input_of_)(int height, int width, const cn_patch_ *patch,
                                                     int c, cn_vm_ mask, float *to,
                                                     ptrdiff_t plane) {
  CN_NAME_(cn_input_rows_)(height, width, 0, patch, c, mask, to, plane);
  if (height == 4) {
    to += 3 * (width + 2) * plane;
    CN_NAME_(cn_input_rows_)(height, width, 3, patch, c, mask, to, plane);
  }
}
#define CN_INPUT_OF_(height, width)                                                                \
  static CN_NOINLINE_ void CN_NAME_(cn_input_##height##x##width##_)(                               \
      const cn_patch_ *patch, int c, cn_vm_ mask, float *to, ptrdiff_t plane) {                    \
    CN_NAME_(cn_input_of_)(height, width, patch, c, mask, to, plane);                              \
  }
CN_INPUT_OF_(4, 4)
CN_INPUT_OF_(4, 2)
CN_INPUT_OF_(2, 4)
CN_INPUT_OF_(2, 2)

/* height, width: results of a tile, 2 or 4. Writes whole vectors. */
static void CN_NAME_(cn_winograd_input_)(int height, int width, const cn_patch_ *patch,
                                         int channels, float *v, ptrdiff_t plane) {
  int c;
  for (c = 0; c < channels; c += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(channels - c, 0));
    if (height == 4 && width == 4)
      CN_NAME_(cn_input_4x4_)(patch, c, mask, v + c, plane);
    else if (height == 4)
      CN_NAME_(cn_input_4x2_)(patch, c, mask, v + c, plane);
    else if (width == 4)
      CN_NAME_(cn_input_2x4_)(patch, c, mask, v + c, plane);
    else
      CN_NAME_(cn_input_2x2_)(patch, c, mask, v + c, plane);
  }
}

#define CN_OUTPUT2_(m0, m1, m2, m3, y0, y1)                                                        \
  y0 = cn_vadd_(cn_vadd_(m0, m1), m2), y1 = cn_vadd_(cn_vsub_(m1, m2), m3)
#define CN_OUTPUT4_(m0, m1, m2, m3, m4, m5, y0, y1, y2, y3)                                        \
  do {                                                                                             \
    const cn_vf_ s1 = cn_vadd_(m1, m2), s2 = cn_vadd_(m3, m4);                                     \
    const cn_vf_ d1 = cn_vsub_(m1, m2), d2 = cn_vsub_(m3, m4);                                     \
    y0 = cn_vadd_(cn_vadd_(m0, s1), s2);                                                           \
    y1 = cn_vfma_(cn_vset_(CN_HALF_ROOT2_), d1, cn_vmul_(cn_vset_(CN_ROOT2_), d2));                \
    y2 = cn_vfma_(cn_vset_(0.5f), s1, cn_vmul_(cn_vset_(2.0f), s2));                               \
    y3 = cn_vfma_(cn_vset_(0.5f * CN_HALF_ROOT2_), d1,                                             \
                  cn_vfma_(cn_vset_(2.0f * CN_ROOT2_), d2, m5));                                   \
  } while (0)

/* Largest of a 2x2 square of results; NaN counts as smaller than everything. */
static inline cn_vf_ CN_NAME_(cn_square_max_)(cn_vf_ a, cn_vf_ b, cn_vf_ c, cn_vf_ d) {
  const cn_vf_ lowest = cn_vset_(-INFINITY);
  return cn_vmax_(cn_vmax_(b, cn_vmax_(a, lowest)), cn_vmax_(d, cn_vmax_(c, lowest)));
}

/* Which one of them it is, the first of equals. */
static inline cn_vf_ CN_NAME_(cn_square_place_)(cn_vf_ a, cn_vf_ b, cn_vf_ c, cn_vf_ best) {
  const cn_vf_ low = cn_vselect_(cn_vequal_(c, best), cn_vset_(2.0f), cn_vset_(3.0f));
  const cn_vf_ high = cn_vselect_(cn_vequal_(b, best), cn_vset_(1.0f), low);
  return cn_vselect_(cn_vequal_(a, best), cn_vzero_(), high);
}

/* Writes rows x columns of two rows of a tile's results, results[2][width], that begin in its row
   `row`, with bias, ReLU and pooling. Bias and ReLU keep the order of values, so pooling may come
   first. */
static CN_ALWAYS_INLINE_ void CN_NAME_(cn_finish_rows_)(const cn_winograd_out_ *o,
                                                        const cn_vf_ *results, int width, int row,
                                                        int rows, int columns, int c, cn_vm_ mask,
                                                        cn_vf_ bias) {
  const cn_vf_ least = o->relu ? cn_vzero_() : cn_vset_(-INFINITY);
  int i, j;
  if (o->pool) {
    for (j = 0; rows == 2 && j < columns / 2; j++) {
      const cn_vf_ *top = results + 2 * j, *bottom = top + width;
      const ptrdiff_t at = row / 2 * o->row_stride + j * o->column_stride + c;
      const cn_vf_ best = CN_NAME_(cn_square_max_)(top[0], top[1], bottom[0], bottom[1]);
      cn_vstore_first_(o->y + at, cn_vmax_(cn_vadd_(best, bias), least), mask);
      if (o->argmax)
        cn_vstore_bytes_(o->argmax + at,
                         CN_NAME_(cn_square_place_)(top[0], top[1], bottom[0], best), mask);
    }
  } else {
    for (i = 0; i < rows; i++) {
      for (j = 0; j < columns; j++) {
        cn_vf_ y = cn_vadd_(results[i * width + j], bias);
        if (o->relu) y = cn_vmax_(y, least);
        cn_vstore_first_(o->y + (row + i) * o->row_stride + j * o->column_stride + c, y, mask);
      }
    }
  }
}

#define CN_OUTPUT_COLUMN_(i)                                                                       \
  if ((i) < columns) {                                                                             \
    const cn_vf_ m0 = cn_vload_(m), m1 = cn_vload_(m + line);                                      \
    const cn_vf_ m2 = cn_vload_(m + 2 * line), m3 = cn_vload_(m + 3 * line);                       \
    if (height == 2) {                                                                             \
      CN_OUTPUT2_(m0, m1, m2, m3, t[0][i], t[1][i]);                                               \
    } else {                                                                                       \
      const cn_vf_ m4 = cn_vload_(m + 4 * line), m5 = cn_vload_(m + 5 * line);                     \
      CN_OUTPUT4_(m0, m1, m2, m3, m4, m5, t[0][i], t[1][i], t[2][i], t[3][i]);                     \
    }                                                                                              \
    m += plane;                                                                                    \
  }
#define CN_OUTPUT_ROW_(i, to)                                                                      \
  if (width == 2)                                                                                  \
    CN_OUTPUT2_(t[i][0], t[i][1], t[i][2], t[i][3], (to)[0], (to)[1]);                             \
  else                                                                                             \
    CN_OUTPUT4_(t[i][0], t[i][1], t[i][2], t[i][3], t[i][4], t[i][5], (to)[0], (to)[1], (to)[2],   \
                (to)[3]);
#define CN_OUTPUT_ROWS_(i)                                                                         \
  if ((i) < height) {                                                                              \
    CN_OUTPUT_ROW_(i, y)                                                                           \
    CN_OUTPUT_ROW_((i) + 1, y + width)                                                             \
    if (whole)                                                                                     \
      CN_NAME_(cn_finish_rows_)(o, y, width, i, 2, width, c, mask, bias);                          \
    else                                                                                           \
      CN_NAME_(cn_finish_rows_)                                                                    \
    (o, y, width, i, cn_max_(0, cn_min_(2, o->rows - (i))), o->columns, c, mask, bias);            \
  }

/* A vector of channels from c on. */
static CN_ALWAYS_INLINE_ void CN_NAME_(cn_output_of_)(int height, int width,
                                                      const cn_winograd_out_ *o, int c,
                                                      const float *m, ptrdiff_t plane) {
  const int columns = width + 2, whole = o->rows == height && o->columns == width;
  const ptrdiff_t line = columns * plane;
  const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(o->channels - c, 0));
  const cn_vf_ bias = o->bias ? cn_vload_first_(o->bias + c, mask) : cn_vzero_();
  cn_vf_ t[4][6], y[8];
  CN_EACH_ROW_6_(CN_OUTPUT_COLUMN_)
  CN_OUTPUT_ROWS_(0)
  CN_OUTPUT_ROWS_(2)
}
#define CN_OUTPUT_OF_(height, width)                                                               \
  static CN_NOINLINE_ void CN_NAME_(cn_output_##height##x##width##_)(                              \
      const cn_winograd_out_ *o, int c, const float *m, ptrdiff_t plane) {                         \
    CN_NAME_(cn_output_of_)(height, width, o, c, m, plane);                                        \
  }
CN_OUTPUT_OF_(4, 4)
CN_OUTPUT_OF_(4, 2)
CN_OUTPUT_OF_(2, 4)
CN_OUTPUT_OF_(2, 2)

/* Reads whole vectors: what is behind the channels is not written anywhere. */
static void CN_NAME_(cn_winograd_output_)(const cn_winograd_out_ *o, const float *m,
                                          ptrdiff_t plane) {
  int c;
  for (c = 0; c < o->channels; c += CN_LANES_) {
    if (o->height == 4 && o->width == 4)
      CN_NAME_(cn_output_4x4_)(o, c, m + c, plane);
    else if (o->height == 4)
      CN_NAME_(cn_output_4x2_)(o, c, m + c, plane);
    else if (o->width == 4)
      CN_NAME_(cn_output_2x4_)(o, c, m + c, plane);
    else
      CN_NAME_(cn_output_2x2_)(o, c, m + c, plane);
  }
}

/* A of F(2, 3) and F(4, 3). */
#define CN_GRADIENT2_(y0, y1, r0, r1, r2, r3)                                                      \
  r0 = y0, r1 = cn_vadd_(y0, y1), r2 = cn_vsub_(y0, y1), r3 = y1
#define CN_GRADIENT4_(y0, y1, y2, y3, r0, r1, r2, r3, r4, r5)                                      \
  do {                                                                                             \
    const cn_vf_ inner = cn_vfma_(cn_vset_(0.5f), y2, y0),                                         \
                 outer = cn_vfma_(cn_vset_(2.0f), y2, y0);                                         \
    const cn_vf_ u = cn_vmul_(cn_vset_(CN_HALF_ROOT2_), cn_vfma_(cn_vset_(0.5f), y3, y1)),         \
                 w = cn_vmul_(cn_vset_(CN_ROOT2_), cn_vfma_(cn_vset_(2.0f), y3, y1));              \
    r0 = y0, r5 = y3;                                                                              \
    r1 = cn_vadd_(inner, u), r2 = cn_vsub_(inner, u);                                              \
    r3 = cn_vadd_(outer, w), r4 = cn_vsub_(outer, w);                                              \
  } while (0)
#define CN_GRADIENT_COLUMN_(i)                                                                     \
  if ((i) < size) {                                                                                \
    if ((i) < patch->first || (i) >= patch->end) {                                                 \
      t[0][i] = t[1][i] = t[2][i] = t[3][i] = t[4][i] = t[5][i] = cn_vzero_();                     \
    } else {                                                                                       \
      const cn_vf_ y0 = CN_PATCH_AT_(0), y1 = CN_PATCH_AT_(1);                                     \
      if (size == 2) {                                                                             \
        CN_GRADIENT2_(y0, y1, t[0][i], t[1][i], t[2][i], t[3][i]);                                 \
      } else {                                                                                     \
        const cn_vf_ y2 = CN_PATCH_AT_(2), y3 = CN_PATCH_AT_(3);                                   \
        CN_GRADIENT4_(y0, y1, y2, y3, t[0][i], t[1][i], t[2][i], t[3][i], t[4][i], t[5][i]);       \
      }                                                                                            \
      at += patch->column_stride;                                                                  \
    }                                                                                              \
  }
#define CN_GRADIENT_ROW_(i)                                                                        \
  if ((i) < size + 2) {                                                                            \
    cn_vf_ r0, r1, r2, r3, r4, r5;                                                                 \
    if (size == 2)                                                                                 \
      CN_GRADIENT2_(t[i][0], t[i][1], r0, r1, r2, r3);                                             \
    else                                                                                           \
      CN_GRADIENT4_(t[i][0], t[i][1], t[i][2], t[i][3], r0, r1, r2, r3, r4, r5);                   \
    CN_STORE_POSITIONS_(size, to);                                                                 \
  }

static CN_ALWAYS_INLINE_ void CN_NAME_(cn_gradient_of_)(int size, const cn_patch_ *patch,
                                                        ptrdiff_t at, cn_vm_ mask, float *to,
                                                        ptrdiff_t plane) {
  cn_vf_ t[6][4];
  CN_EACH_ROW_4_(CN_GRADIENT_COLUMN_)
  CN_EACH_ROW_6_(CN_GRADIENT_ROW_)
}
static CN_NOINLINE_ void CN_NAME_(cn_gradient_4x4_)(const cn_patch_ *patch, int c, cn_vm_ mask,
                                                    float *to, ptrdiff_t plane) {
  CN_NAME_(cn_gradient_of_)(4, patch, c, mask, to, plane);
}
static CN_NOINLINE_ void CN_NAME_(cn_gradient_2x2_)(const cn_patch_ *patch, int c, cn_vm_ mask,
                                                    float *to, ptrdiff_t plane) {
  CN_NAME_(cn_gradient_of_)(2, patch, c, mask, to, plane);
}

/* A dY A^T of a tile's gradients, size 2 or 4 a side; position p goes to d + p * plane. Writes
   whole vectors. */
static void CN_NAME_(cn_winograd_gradient_)(int size, const cn_patch_ *patch, int channels,
                                            float *d, ptrdiff_t plane) {
  int c;
  for (c = 0; c < channels; c += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(channels - c, 0));
    if (size == 4)
      CN_NAME_(cn_gradient_4x4_)(patch, c, mask, d + c, plane);
    else
      CN_NAME_(cn_gradient_2x2_)(patch, c, mask, d + c, plane);
  }
}

/* G^T of F(2, 3) and F(4, 3). */
#define CN_WEIGHTS_GRADIENT2_(r, g)                                                                \
  do {                                                                                             \
    const cn_vf_ half = cn_vset_(0.5f), sum = cn_vmul_(half, cn_vadd_((r)[1], (r)[2]));            \
    (g)[0] = cn_vadd_((r)[0], sum), (g)[1] = cn_vmul_(half, cn_vsub_((r)[1], (r)[2]));             \
    (g)[2] = cn_vadd_(sum, (r)[3]);                                                                \
  } while (0)
#define CN_WEIGHTS_GRADIENT4_(r, g)                                                                \
  do {                                                                                             \
    const cn_vf_ s1 = cn_vadd_((r)[1], (r)[2]), s2 = cn_vadd_((r)[3], (r)[4]);                     \
    const cn_vf_ d1 = cn_vsub_((r)[1], (r)[2]), d2 = cn_vsub_((r)[3], (r)[4]);                     \
    const cn_vf_ outer = cn_vfma_(cn_vset_(1.0f / 6.0f), s2, (r)[0]);                              \
    (g)[0] = cn_vfma_(cn_vset_(-2.0f / 3.0f), s1, outer);                                          \
    (g)[1] = cn_vfma_(cn_vset_(-2.0f / 3.0f * CN_HALF_ROOT2_), d1,                                 \
                      cn_vmul_(cn_vset_(1.0f / 6.0f * CN_ROOT2_), d2));                            \
    (g)[2] = cn_vfma_(cn_vset_(1.0f / 3.0f), cn_vsub_(s2, s1), (r)[5]);                            \
  } while (0)

/* G^T dU G of n neighbouring columns, position p at u + p * plane; the 3x3 results go to at[0..8].
   size: results of a tile's side, 2 or 4. */
static void CN_NAME_(cn_winograd_weights_gradient_)(int size, const float *u, ptrdiff_t plane,
                                                    int n, float *const *at) {
  const int columns = size + 2;
  int c, i, j;
  for (c = 0; c < n; c += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(n - c, 0));
    cn_vf_ t[3][6], r[6], g[3];
    for (j = 0; j < columns; j++) {
      for (i = 0; i < size + 2; i++) r[i] = cn_vload_(u + (i * columns + j) * plane + c);
      if (size == 2)
        CN_WEIGHTS_GRADIENT2_(r, g);
      else
        CN_WEIGHTS_GRADIENT4_(r, g);
      for (i = 0; i < 3; i++) t[i][j] = g[i];
    }
    for (i = 0; i < 3; i++) {
      if (size == 2)
        CN_WEIGHTS_GRADIENT2_(t[i], g);
      else
        CN_WEIGHTS_GRADIENT4_(t[i], g);
      for (j = 0; j < 3; j++) cn_vstore_first_(at[3 * i + j] + c, g[j], mask);
    }
  }
}

/* ---- first layer on grey pictures: 1-D Winograd F(2, 3) along the rows, 2x2 pooling ---- */

/* G of F(2, 3) along each row of w[3][3][filters]: packed[filters / lanes][12][lanes]. */
static void CN_NAME_(cn_grey_weights_)(const float *w, int filters, float *packed) {
  int c, ky, p;
  for (c = 0; c < filters; c += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(filters - c, 0));
    for (ky = 0; ky < 3; ky++, packed += 4 * CN_LANES_) {
      const float *row = w + 3 * ky * filters + c;
      const cn_vf_ w0 = cn_vload_first_(row, mask), w1 = cn_vload_first_(row + filters, mask),
                   w2 = cn_vload_first_(row + 2 * filters, mask);
      cn_vf_ points[4];
      CN_WEIGHTS2_(w0, w1, w2, points);
      for (p = 0; p < 4; p++) cn_vstore_(packed + p * CN_LANES_, points[p]);
    }
  }
}

/* B^T of F(2, 3) for the window that begins at each column, in four planes. Every second window is
   used. Reads and writes up to a vector behind the row. */
static void CN_NAME_(cn_grey_row_)(const float *x, int columns, float *to, ptrdiff_t plane) {
  int i;
  for (i = 0; i < columns; i += CN_LANES_) {
    const cn_vf_ d0 = cn_vload_(x + i), d1 = cn_vload_(x + i + 1), d2 = cn_vload_(x + i + 2),
                 d3 = cn_vload_(x + i + 3);
    cn_vf_ r0, r1, r2, r3;
    CN_INPUT2_(d0, d1, d2, d3, r0, r1, r2, r3);
    cn_vstore_(to + i, r0);
    cn_vstore_(to + plane + i, r1);
    cn_vstore_(to + 2 * plane + i, r2);
    cn_vstore_(to + 3 * plane + i, r3);
  }
}

/* Two neighbouring results of one row of the convolution, from three transformed rows. */
#define CN_GREY_AT_(row, p) cn_vset_((row)[(p)*plane])
#define CN_GREY_PRODUCT_(a, b, c, p)                                                               \
  cn_vfma_(CN_GREY_AT_(c, p), w2##p,                                                               \
           cn_vfma_(CN_GREY_AT_(b, p), w1##p, cn_vmul_(CN_GREY_AT_(a, p), w0##p)))
#define CN_GREY_ADD_(a, b, c, p, to)                                                               \
  cn_vfma_(CN_GREY_AT_(c, p), w2##p,                                                               \
           cn_vfma_(CN_GREY_AT_(b, p), w1##p, cn_vfma_(CN_GREY_AT_(a, p), w0##p, to)))
#define CN_GREY_PAIR_(a, b, c, first, second)                                                      \
  do {                                                                                             \
    const cn_vf_ m1 = CN_GREY_PRODUCT_(a, b, c, 1), m2 = CN_GREY_PRODUCT_(a, b, c, 2);             \
    first = CN_GREY_ADD_(a, b, c, 0, cn_vadd_(m1, m2));                                            \
    second = CN_GREY_ADD_(a, b, c, 3, cn_vsub_(m1, m2));                                           \
  } while (0)
#define CN_GREY_WEIGHT_(ky, p) w##ky##p = cn_vload_(w + (4 * ky + p) * CN_LANES_)
#define CN_GREY_WEIGHTS_(ky)                                                                       \
  const cn_vf_ CN_GREY_WEIGHT_(ky, 0), CN_GREY_WEIGHT_(ky, 1), CN_GREY_WEIGHT_(ky, 2),             \
      CN_GREY_WEIGHT_(ky, 3)

static void CN_NAME_(cn_grey_)(const cn_grey_ *grey) {
  const ptrdiff_t plane = grey->plane;
  const int filters = grey->filters;
  const float *w = grey->packed;
  int c, x;
  for (c = 0; c < filters; c += CN_LANES_, w += 12 * CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(filters - c, 0));
    const cn_vf_ bias = grey->bias ? cn_vload_first_(grey->bias + c, mask) : cn_vzero_();
    const cn_vf_ least = grey->relu ? cn_vzero_() : cn_vset_(-INFINITY);
    const float *row0 = grey->rows, *row1 = row0 + 4 * plane, *row2 = row1 + 4 * plane,
                *row3 = row2 + 4 * plane;
    float *y = grey->y + c;
    uint8_t *argmax = grey->argmax ? grey->argmax + c : NULL;
    CN_GREY_WEIGHTS_(0);
    CN_GREY_WEIGHTS_(1);
    CN_GREY_WEIGHTS_(2);
    for (x = 0; x < grey->windows; x++, row0 += 2, row1 += 2, row2 += 2, row3 += 2, y += filters) {
      cn_vf_ z0, z1, z2, z3, best;
      CN_GREY_PAIR_(row0, row1, row2, z0, z1);
      CN_GREY_PAIR_(row1, row2, row3, z2, z3);
      best = CN_NAME_(cn_square_max_)(z0, z1, z2, z3);
      if (argmax) {
        cn_vstore_bytes_(argmax, CN_NAME_(cn_square_place_)(z0, z1, z2, best), mask);
        argmax += filters;
      }
      cn_vstore_first_(y, cn_vmax_(cn_vadd_(best, bias), least), mask);
    }
  }
}

/* ---- depthwise convolution: each channel with its own filter, channels as lanes ---- */

/* One row of results; taps (row-major) read x + tap's a and weights[tap][channels]. */
static void CN_NAME_(cn_depthwise_row_)(const float *x, ptrdiff_t x_step,
                                        const cn_segment_ *segments, int taps, const float *weights,
                                        const float *bias, int relu, int width, int channels,
                                        float *y) {
  int c, i, k;
  for (i = 0; i < width; i++, x += x_step, y += channels) {
    for (c = 0; c < channels; c += CN_LANES_) {
      const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(channels - c, 0));
      cn_vf_ sum = bias ? cn_vload_first_(bias + c, mask) : cn_vzero_();
      for (k = 0; k < taps; k++)
        sum = cn_vfma_(cn_vload_first_(x + segments[k].a + c, mask),
                       cn_vload_first_(weights + (ptrdiff_t)k * channels + c, mask), sum);
      cn_vstore_first_(y + c, relu ? cn_vmax_(sum, cn_vzero_()) : sum, mask);
    }
  }
}

/* sum[n] += a[n] * b[n] */
static void CN_NAME_(cn_multiply_add_)(const float *a, const float *b, float *sum, int n) {
  int i;
  for (i = 0; i < n; i += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(n - i, 0));
    const cn_vf_ s = cn_vload_first_(sum + i, mask);
    cn_vstore_first_(sum + i,
                     cn_vfma_(cn_vload_first_(a + i, mask), cn_vload_first_(b + i, mask), s), mask);
  }
}

/* sum[columns] += each of rows; parts of CN_STATISTICS_ROWS rows keep the rounding small. */
static void CN_NAME_(cn_column_sums_)(const float *x, size_t rows, int columns, float *sum) {
  while (rows > 0) {
    const size_t part = rows < CN_STATISTICS_ROWS ? rows : CN_STATISTICS_ROWS;
    size_t row;
    int c = 0;
    for (; columns - c >= 4 * CN_LANES_; c += 4 * CN_LANES_) {
      const float *at = x + c;
      cn_vf_ s0 = cn_vzero_(), s1 = s0, s2 = s0, s3 = s0;
      for (row = 0; row < part; row++, at += columns) {
        s0 = cn_vadd_(s0, cn_vload_(at)), s1 = cn_vadd_(s1, cn_vload_(at + CN_LANES_));
        s2 = cn_vadd_(s2, cn_vload_(at + 2 * CN_LANES_));
        s3 = cn_vadd_(s3, cn_vload_(at + 3 * CN_LANES_));
      }
      cn_vstore_(sum + c, cn_vadd_(cn_vload_(sum + c), s0));
      cn_vstore_(sum + c + CN_LANES_, cn_vadd_(cn_vload_(sum + c + CN_LANES_), s1));
      cn_vstore_(sum + c + 2 * CN_LANES_, cn_vadd_(cn_vload_(sum + c + 2 * CN_LANES_), s2));
      cn_vstore_(sum + c + 3 * CN_LANES_, cn_vadd_(cn_vload_(sum + c + 3 * CN_LANES_), s3));
    }
    for (; c < columns; c += CN_LANES_) {
      const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(columns - c, 0));
      const float *at = x + c;
      cn_vf_ s = cn_vzero_();
      for (row = 0; row < part; row++, at += columns) s = cn_vadd_(s, cn_vload_first_(at, mask));
      cn_vstore_first_(sum + c, cn_vadd_(cn_vload_first_(sum + c, mask), s), mask);
    }
    x += part * (size_t)columns, rows -= part;
  }
}

/* ---- pooling with any window; x0, y0 .. are the part of the window inside the image ---- */

static void CN_NAME_(cn_pool_window_)(const cn_pool_at_ *p, float *y) {
  const cn_vf_ scale = cn_vset_(p->mean_scale), keep = cn_vset_(p->mix),
               rest = cn_vset_(1.0f - p->mix);
  int c, i, j;
  for (c = 0; c < p->channels; c += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(p->channels - c, 0));
    cn_vf_ largest = cn_vset_(-INFINITY), smallest = cn_vset_(INFINITY), sum = cn_vzero_();
    for (i = 0; i < p->rows; i++) {
      for (j = 0; j < p->columns; j++) {
        const cn_vf_ v = cn_vload_first_(p->x + i * p->row_step + j * p->column_step + c, mask);
        largest = cn_vmax_(v, largest), smallest = cn_vmin_(v, smallest), sum = cn_vadd_(sum, v);
      }
    }
    sum = cn_vmul_(sum, scale);
    cn_vstore_first_(y + c,
                     p->kind == CN_POOL_MAX    ? largest
                     : p->kind == CN_POOL_MIN  ? smallest
                     : p->kind == CN_POOL_MEAN ? sum
                                               : cn_vfma_(keep, largest, cn_vmul_(rest, sum)),
                     mask);
  }
}

/* dx of the window += its gradient dy. The extreme's share goes to the first value equal to it. */
static void CN_NAME_(cn_pool_window_backward_)(const cn_pool_at_ *p, const float *dy, float *dx) {
  const int extreme = p->kind != CN_POOL_MEAN, least = p->kind == CN_POOL_MIN;
  const float mean_share = p->kind == CN_POOL_MEAN  ? p->mean_scale
                           : p->kind == CN_POOL_MIX ? (1.0f - p->mix) * p->mean_scale
                                                    : 0.0f;
  const float extreme_share = p->kind == CN_POOL_MIX ? p->mix : 1.0f;
  int c, i, j;
  for (c = 0; c < p->channels; c += CN_LANES_) {
    const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(p->channels - c, 0));
    const cn_vf_ g = cn_vload_first_(dy + c, mask), mean = cn_vmul_(g, cn_vset_(mean_share));
    cn_vf_ best = cn_vset_(least ? INFINITY : -INFINITY);
    cn_vf_ left = extreme ? cn_vmul_(g, cn_vset_(extreme_share)) : cn_vzero_();
    for (i = 0; i < p->rows && extreme; i++) {
      for (j = 0; j < p->columns; j++) {
        const cn_vf_ v = cn_vload_first_(p->x + i * p->row_step + j * p->column_step + c, mask);
        best = least ? cn_vmin_(v, best) : cn_vmax_(v, best);
      }
    }
    for (i = 0; i < p->rows; i++) {
      for (j = 0; j < p->columns; j++) {
        const ptrdiff_t at = i * p->row_step + j * p->column_step + c;
        cn_vf_ d = cn_vadd_(cn_vload_first_(dx + at, mask), mean);
        if (extreme) {
          const cn_vb_ here = cn_vequal_(cn_vload_first_(p->x + at, mask), best);
          d = cn_vadd_(d, cn_vselect_(here, left, cn_vzero_()));
          left = cn_vselect_(here, cn_vzero_(), left);
        }
        cn_vstore_first_(dx + at, d, mask);
      }
    }
  }
}

/* ---- element-wise ---- */

/* exp(x), relative error below 2e-7: 2^n * e^r with |r| <= ln(2)/2, the polynomial of Cephes' expf
   (Moshier). Below -87.3, where e^x leaves the normal numbers, 0; above 88.3 as at 88.3; NaN
   stays. */
static inline cn_vf_ CN_NAME_(cn_exp_)(cn_vf_ x) {
  const cn_vf_ bounded = cn_vmin_(cn_vset_(88.3f), cn_vmax_(cn_vset_(-87.3f), x));
  const cn_vf_ n = cn_vround_(cn_vmul_(bounded, cn_vset_(1.44269504f)));
  const cn_vf_ r =
      cn_vfnma_(n, cn_vset_(-2.12194440e-4f), cn_vfnma_(n, cn_vset_(0.693359375f), bounded));
  cn_vf_ p = cn_vset_(1.9875691500e-4f);
  p = cn_vfma_(p, r, cn_vset_(1.3981999507e-3f));
  p = cn_vfma_(p, r, cn_vset_(8.3334519073e-3f));
  p = cn_vfma_(p, r, cn_vset_(4.1665795894e-2f));
  p = cn_vfma_(p, r, cn_vset_(1.6666665459e-1f));
  p = cn_vfma_(p, r, cn_vset_(5.0000001201e-1f));
  p = cn_vadd_(cn_vfma_(cn_vmul_(r, r), p, r), cn_vset_(1.0f));
  p = cn_vmul_(p, cn_vpower2_(n));
  return cn_vselect_(cn_vgreater_(cn_vset_(-87.3f), x), cn_vzero_(), p);
}

#define CN_EACH_VECTOR_(n)                                                                         \
  for (i = 0; i < (n) && (mask = cn_vfirst_((n)-i < CN_LANES_ ? (int)((n)-i) : CN_LANES_), 1);     \
       i += CN_LANES_)

static void CN_NAME_(cn_relu_forward_)(const float *x, float *y, size_t n) {
  cn_vm_ mask;
  size_t i;
  CN_EACH_VECTOR_(n)
  cn_vstore_first_(y + i, cn_vmax_(cn_vload_first_(x + i, mask), cn_vzero_()), mask);
}

static void CN_NAME_(cn_relu_backward_)(const float *y, const float *dy, float scale, float *dx,
                                        size_t n) {
  const cn_vf_ zero = cn_vzero_(), factor = cn_vset_(scale);
  cn_vm_ mask;
  size_t i;
  CN_EACH_VECTOR_(n) {
    const cn_vf_ g = cn_vmul_(cn_vload_first_(dy + i, mask), factor);
    cn_vstore_first_(dx + i, cn_vselect_(cn_vgreater_(cn_vload_first_(y + i, mask), zero), g, zero),
                     mask);
  }
}

static void CN_NAME_(cn_sigmoid_forward_)(const float *x, float *y, size_t n) {
  const cn_vf_ one = cn_vset_(1.0f);
  cn_vm_ mask;
  size_t i;
  CN_EACH_VECTOR_(n) {
    const cn_vf_ e = CN_NAME_(cn_exp_)(cn_vsub_(cn_vzero_(), cn_vload_first_(x + i, mask)));
    cn_vstore_first_(y + i, cn_vdiv_(one, cn_vadd_(one, e)), mask);
  }
}

static void CN_NAME_(cn_sigmoid_backward_)(const float *y, const float *dy, float *dx, size_t n) {
  cn_vm_ mask;
  size_t i;
  CN_EACH_VECTOR_(n) {
    const cn_vf_ s = cn_vload_first_(y + i, mask), slope = cn_vfnma_(s, s, s);
    cn_vstore_first_(dx + i, cn_vmul_(cn_vload_first_(dy + i, mask), slope), mask);
  }
}

/* Near 0 the formula 2 / (1 + exp(-2x)) - 1 cancels, so there the odd series is used. */
static void CN_NAME_(cn_tanh_forward_)(const float *x, float *y, size_t n) {
  const cn_vf_ one = cn_vset_(1.0f), two = cn_vset_(2.0f);
  cn_vm_ mask;
  size_t i;
  CN_EACH_VECTOR_(n) {
    const cn_vf_ v = cn_vload_first_(x + i, mask), square = cn_vmul_(v, v);
    const cn_vf_ e = CN_NAME_(cn_exp_)(cn_vmul_(v, cn_vset_(-2.0f)));
    const cn_vf_ large = cn_vsub_(cn_vdiv_(two, cn_vadd_(one, e)), one);
    cn_vf_ series = cn_vset_(21844.0f / 6081075.0f);
    series = cn_vfma_(series, square, cn_vset_(-1382.0f / 155925.0f));
    series = cn_vfma_(series, square, cn_vset_(62.0f / 2835.0f));
    series = cn_vfma_(series, square, cn_vset_(-17.0f / 315.0f));
    series = cn_vfma_(series, square, cn_vset_(2.0f / 15.0f));
    series = cn_vfma_(series, square, cn_vset_(-1.0f / 3.0f));
    series = cn_vfma_(cn_vmul_(series, square), v, v);
    cn_vstore_first_(y + i, cn_vselect_(cn_vgreater_(cn_vset_(0.25f), square), series, large),
                     mask);
  }
}

static void CN_NAME_(cn_tanh_backward_)(const float *y, const float *dy, float *dx, size_t n) {
  cn_vm_ mask;
  size_t i;
  CN_EACH_VECTOR_(n) {
    const cn_vf_ t = cn_vload_first_(y + i, mask), slope = cn_vfnma_(t, t, cn_vset_(1.0f));
    cn_vstore_first_(dx + i, cn_vmul_(cn_vload_first_(dy + i, mask), slope), mask);
  }
}

static void CN_NAME_(cn_add_)(const float *a, const float *b, float *y, size_t n) {
  cn_vm_ mask;
  size_t i;
  CN_EACH_VECTOR_(n)
  cn_vstore_first_(y + i, cn_vadd_(cn_vload_first_(a + i, mask), cn_vload_first_(b + i, mask)),
                   mask);
}

/* p = exp(x - shift); returns the sum, lanes added in order. */
static float CN_NAME_(cn_exp_shifted_)(const float *x, float shift, float *p, size_t n) {
  const cn_vf_ s = cn_vset_(shift);
  float lanes[CN_LANES_], total = 0.0f;
  cn_vf_ sum = cn_vzero_();
  cn_vm_ mask;
  size_t i;
  int j;
  CN_EACH_VECTOR_(n) {
    const cn_vf_ e = CN_NAME_(cn_exp_)(cn_vsub_(cn_vload_first_(x + i, mask), s));
    cn_vstore_first_(p + i, e, mask);
    sum = cn_vadd_(sum, cn_vload_first_(p + i, mask));
  }
  cn_vstore_(lanes, sum);
  for (j = 0; j < CN_LANES_; j++) total += lanes[j];
  return total;
}

/* ---- batch normalisation ---- */

/* sums[0][c] = sum of a, sums[1][c] = sum of a * (b - mean) * factor over the rows of one part. For
   the statistics a = b: then mean and factor are NULL and the second is the sum of squares about
   the part's first row, which the caller undoes in double. */
static void CN_NAME_(cn_part_sums_)(const float *a, const float *b, size_t rows, int channels,
                                    const float *mean, const float *factor, double *sums) {
  int c, j;
  for (c = 0; c < channels; c += CN_LANES_) {
    const int lanes = CN_NAME_(cn_lanes_left_)(channels - c, 0);
    const cn_vm_ mask = cn_vfirst_(lanes);
    const cn_vf_ centre = cn_vload_first_((mean ? mean : b) + c, mask);
    cn_vf_ first = cn_vzero_(), second = cn_vzero_();
    float first_lanes[CN_LANES_], second_lanes[CN_LANES_];
    size_t row;
    for (row = 0; row < rows; row++) {
      const cn_vf_ from_mean =
          cn_vsub_(cn_vload_first_(b + row * (size_t)channels + c, mask), centre);
      const cn_vf_ value =
          factor ? cn_vload_first_(a + row * (size_t)channels + c, mask) : from_mean;
      first = cn_vadd_(first, value), second = cn_vfma_(value, from_mean, second);
    }
    if (factor) second = cn_vmul_(second, cn_vload_first_(factor + c, mask));
    cn_vstore_(first_lanes, first), cn_vstore_(second_lanes, second);
    for (j = 0; j < lanes; j++) {
      sums[c + j] = (double)first_lanes[j];
      sums[channels + c + j] = (double)second_lanes[j];
    }
  }
}

static void CN_NAME_(cn_normalise_)(const cn_batchnorm *norm, const float *x, float *y,
                                    size_t rows) {
  const int channels = norm->channels, relu = norm->relu;
  int c;
  size_t row;
  for (row = 0; row < rows; row++, x += channels, y += channels) {
    for (c = 0; c < channels; c += CN_LANES_) {
      const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(channels - c, 0));
      const cn_vf_ factor = cn_vmul_(cn_vload_first_(norm->inverse_deviation + c, mask),
                                     cn_vload_first_(norm->scale + c, mask));
      const cn_vf_ from_mean =
          cn_vsub_(cn_vload_first_(x + c, mask), cn_vload_first_(norm->mean + c, mask));
      const cn_vf_ v = cn_vfma_(from_mean, factor, cn_vload_first_(norm->shift + c, mask));
      cn_vstore_first_(y + c, relu ? cn_vmax_(v, cn_vzero_()) : v, mask);
    }
  }
}

/* dx = scale * inverse_deviation * (dy - share * (dshift + (x - mean) * inverse_deviation *
   dscale)) with share = 1 / rows of the batch; frozen: dx = scale * inverse_deviation * dy. */
static void CN_NAME_(cn_normalise_backward_)(const cn_batchnorm *norm, const float *x,
                                             const float *dy, const float *dscale,
                                             const float *dshift, float *dx, size_t rows) {
  const cn_vf_ share = cn_vset_(1.0f / (float)norm->rows);
  const int channels = norm->channels;
  int c;
  size_t row;
  for (row = 0; row < rows; row++, x += channels, dy += channels, dx += channels) {
    for (c = 0; c < channels; c += CN_LANES_) {
      const cn_vm_ mask = cn_vfirst_(CN_NAME_(cn_lanes_left_)(channels - c, 0));
      const cn_vf_ inverse = cn_vload_first_(norm->inverse_deviation + c, mask);
      cn_vf_ d = cn_vload_first_(dy + c, mask);
      if (!norm->frozen) {
        const cn_vf_ from_mean =
            cn_vsub_(cn_vload_first_(x + c, mask), cn_vload_first_(norm->mean + c, mask));
        const cn_vf_ both =
            cn_vfma_(cn_vmul_(from_mean, inverse), cn_vload_first_(dscale + c, mask),
                     cn_vload_first_(dshift + c, mask));
        d = cn_vfnma_(share, both, d);
      }
      cn_vstore_first_(
          dx + c, cn_vmul_(cn_vmul_(cn_vload_first_(norm->scale + c, mask), inverse), d), mask);
    }
  }
}

/* ---- what is finite ---- */

/* Whether the bits of |value| are below `limit` for all n values: what is not sets the highest bit.
   Loops of a known length become vectors at -O2 too. */
static int CN_NAME_(cn_all_below_)(const float *values, size_t n, uint32_t limit) {
  enum { at_a_time = 64 };
  const uint32_t missing = 0x80000000u - limit;
  uint32_t bits, sums = 0;
  size_t i;
  int j;
  for (i = 0; i + at_a_time <= n; i += at_a_time) {
    for (j = 0; j < at_a_time; j++) {
      memcpy(&bits, values + i + j, sizeof bits);
      sums |= (bits & 0x7FFFFFFFu) + missing;
    }
  }
  for (; i < n; i++) {
    memcpy(&bits, values + i, sizeof bits);
    sums |= (bits & 0x7FFFFFFFu) + missing;
  }
  return sums < 0x80000000u;
}

/* ---- optimisers ---- */

static void CN_NAME_(cn_update_)(const cn_update *u, float *w, const float *g, float *first,
                                 float *second, size_t n) {
  const double step = (double)u->step;
  const cn_vf_ zero = cn_vzero_(), rate = cn_vset_(u->learning_rate),
               epsilon = cn_vset_(u->epsilon);
  const cn_vf_ l1 = cn_vset_(u->l1), minus_l1 = cn_vset_(-u->l1), l2 = cn_vset_(u->l2);
  const cn_vf_ momentum = cn_vset_(u->momentum), beta1 = cn_vset_(u->beta1),
               beta2 = cn_vset_(u->beta2);
  const cn_vf_ rest1 = cn_vset_(1.0f - u->beta1), rest2 = cn_vset_(1.0f - u->beta2);
  const cn_vf_ keep = cn_vset_(1.0f - u->learning_rate * u->decay);
  const int adam = u->optimizer == CN_ADAM || u->optimizer == CN_ADAMW;
  const cn_vf_ correct1 =
      cn_vset_(adam ? (float)(1.0 / (1.0 - pow((double)u->beta1, step))) : 1.0f);
  const cn_vf_ correct2 =
      cn_vset_(adam ? (float)(1.0 / (1.0 - pow((double)u->beta2, step))) : 1.0f);
  const int penalty = u->l1 != 0.0f || u->l2 != 0.0f;
  cn_vm_ mask;
  size_t i;
  CN_EACH_VECTOR_(n) {
    cn_vf_ weight = cn_vload_first_(w + i, mask), gradient = cn_vload_first_(g + i, mask), change;
    if (penalty) {
      gradient = cn_vfma_(l2, weight, gradient);
      gradient =
          cn_vadd_(gradient, cn_vselect_(cn_vgreater_(weight, zero), l1,
                                         cn_vselect_(cn_vgreater_(zero, weight), minus_l1, zero)));
    }
    if (adam) {
      const cn_vf_ m = cn_vfma_(beta1, cn_vload_first_(first + i, mask), cn_vmul_(rest1, gradient));
      const cn_vf_ v = cn_vfma_(beta2, cn_vload_first_(second + i, mask),
                                cn_vmul_(rest2, cn_vmul_(gradient, gradient)));
      cn_vstore_first_(first + i, m, mask), cn_vstore_first_(second + i, v, mask);
      change = cn_vdiv_(cn_vmul_(m, correct1), cn_vadd_(cn_vsqrt_(cn_vmul_(v, correct2)), epsilon));
      if (u->optimizer == CN_ADAMW) weight = cn_vmul_(weight, keep);
    } else if (u->optimizer == CN_SGD) {
      const cn_vf_ m = cn_vfma_(momentum, cn_vload_first_(first + i, mask), gradient);
      cn_vstore_first_(first + i, m, mask);
      change = u->nesterov ? cn_vfma_(momentum, m, gradient) : m;
    } else {
      const cn_vf_ v = cn_vfma_(gradient, gradient, cn_vload_first_(second + i, mask));
      cn_vstore_first_(second + i, v, mask);
      change = cn_vdiv_(gradient, cn_vadd_(cn_vsqrt_(v), epsilon));
    }
    cn_vstore_first_(w + i, cn_vfnma_(rate, change, weight), mask);
  }
}

/* ---- the table ---- */

static const cn_kernels_ CN_NAME_(cn_kernels_) = {CN_LANES_,
                                                  CN_TILE_VECTORS_,
                                                  CN_SPARSE_VECTORS_ *CN_LANES_,
                                                  CN_NAME_(cn_product_),
                                                  CN_NAME_(cn_outer_),
                                                  CN_NAME_(cn_pack_matrix_),
                                                  CN_NAME_(cn_pool_rows_),
                                                  CN_NAME_(cn_unpool_row_),
                                                  CN_NAME_(cn_channel_block_),
                                                  CN_NAME_(cn_transpose_),
                                                  CN_NAME_(cn_all_below_),
                                                  CN_NAME_(cn_zeros_),
                                                  CN_NAME_(cn_list_),
                                                  CN_NAME_(cn_find_spikes_),
                                                  CN_NAME_(cn_sparse_),
                                                  CN_NAME_(cn_sparse_row_),
                                                  CN_NAME_(cn_few_),
                                                  CN_NAME_(cn_grey_weights_),
                                                  CN_NAME_(cn_grey_row_),
                                                  CN_NAME_(cn_grey_),
                                                  CN_NAME_(cn_winograd_weights_),
                                                  CN_NAME_(cn_winograd_input_),
                                                  CN_NAME_(cn_winograd_output_),
                                                  CN_NAME_(cn_winograd_gradient_),
                                                  CN_NAME_(cn_winograd_weights_gradient_),
                                                  CN_NAME_(cn_depthwise_row_),
                                                  CN_NAME_(cn_multiply_add_),
                                                  CN_NAME_(cn_column_sums_),
                                                  CN_NAME_(cn_pool_window_),
                                                  CN_NAME_(cn_pool_window_backward_),
                                                  CN_NAME_(cn_relu_forward_),
                                                  CN_NAME_(cn_relu_backward_),
                                                  CN_NAME_(cn_sigmoid_forward_),
                                                  CN_NAME_(cn_sigmoid_backward_),
                                                  CN_NAME_(cn_tanh_forward_),
                                                  CN_NAME_(cn_tanh_backward_),
                                                  CN_NAME_(cn_add_),
                                                  CN_NAME_(cn_exp_shifted_),
                                                  CN_NAME_(cn_part_sums_),
                                                  CN_NAME_(cn_normalise_),
                                                  CN_NAME_(cn_normalise_backward_),
                                                  CN_NAME_(cn_update_)};

#undef CN_NAME_
#undef CN_LANES_
#undef CN_TILE_ROWS_
#undef CN_TILE_VECTORS_
#undef CN_SPARSE_VECTORS_
#undef CN_SQUARE_
#undef CN_PANEL_
#undef cn_vadd_
#undef cn_vb_
#undef cn_vdiv_
#undef cn_vequal_
#undef cn_vf_
#undef cn_vfirst_
#undef cn_vfma_
#undef cn_vfnma_
#undef cn_vgreater_
#undef cn_vload_
#undef cn_vload_bytes_
#undef cn_vload_first_
#undef cn_vm_
#undef cn_vmax_
#undef cn_vmin_
#undef cn_vmul_
#undef cn_vpower2_
#undef cn_vround_
#undef cn_vselect_
#undef cn_vset_
#undef cn_vsqrt_
#undef cn_vstore_
#undef cn_vstore_bytes_
#undef cn_vstore_first_
#undef cn_vsub_
#undef cn_vzero_
#undef CN_EACH_VECTOR_
#undef CN_EACH_PANEL_VECTOR_
#undef CN_WIDE_ROWS_
#undef CN_WIDE_PANELS_
#undef CN_FEW_ADD_
#undef CN_FEW_DECLARE_
#undef CN_FEW_STORE_
#undef CN_INPUT2_
#undef CN_INPUT4_FIRST_
#undef CN_INPUT4_LAST_
#undef CN_OUTPUT2_
#undef CN_OUTPUT4_
#undef CN_SPARSE_
#undef CN_SPARSE_ADD_
#undef CN_SPARSE_DECLARE_
#undef CN_SPARSE_STORE_
#undef CN_TILES_
#undef CN_TILES_3_
#undef CN_TILE_TABLE_
#undef CN_TILE_TABLE_14_
#undef CN_TILE_TABLE_2_
#undef CN_TILE_TABLE_6_
#undef CN_TILE_TABLE_7_
#undef CN_WEIGHTS2_
#undef CN_WEIGHTS4_
#endif /* CN_PASS_ */

/* MIT licence

   Copyright (c) 2026 the convnet.h authors

   Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
   associated documentation files (the "Software"), to deal in the Software without restriction,
   including without limitation the rights to use, copy, modify, merge, publish, distribute,
   sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
   furnished to do so, subject to the following conditions:

   The above copyright notice and this permission notice shall be included in all copies or
   substantial portions of the Software.

   THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
   NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
   NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
   DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */
